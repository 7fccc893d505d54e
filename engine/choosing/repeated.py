"""Attributes that repeat a pruned size, and that only other methods than the forward read: for fusing, say.

Whether a number that equals a width is that width, only its reader knows. It is taken for certain where
every axis of that size inside of the module has the same layout, and the attribute is named
like one that a module rule or the plan knows as a size, or for short. All others stay, and are named.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from ...adapters.inputs import has_config
from ...adapters.plan import Plan
from ...adapters.settings import attribute_of
from ...adapters.submodules import find_module, modules_of
from ...adapters.tensors import named_tensors
from ..axes import resolve
from ..explaining import listing
from ..grouping import Groups, Member
from ..sizes import AttributeKey
from ..tracing import attribute_name

_SMALL = 4  # a smaller number is a stride or a depth as often as a width
_SHOWN = 4
Kept = Mapping[str, Mapping[int, Sequence[int]]]
Now = dict[Any, int]  # by what tells sizes apart that were equal


def repeating_attributes(graph: Groups, kept: Kept, changed: Mapping[str, int]) -> dict[str, int]:
    """New values of the attributes that certainly repeat a pruned size, besides those that are `changed`."""
    names = graph.rules.size_names | {_last_name(name) for name in changed}
    return {
        attribute_name(*place): next(iter(now.values()))
        for place, now in _repeating(graph, kept, changed)
        if len(now) == 1 and _is_named_like(_last_name(attribute_name(*place)), names)
    }


def repeated_notes(graph: Groups, plan: Plan) -> list[str]:
    """A line about the attributes that may repeat a pruned size, and stay as they are.

    Those of a config are solved when the model is saved.
    """
    left = [
        place
        for place, _ in _repeating(graph, plan.sliced, plan.attributes)
        if not _is_of_a_config(graph, place)
    ]
    if not left:
        return []
    written = [f"{attribute_name(*place)} = {graph.trace.attributes[place]}" for place in left]
    return [
        f"{listing(written, _SHOWN)}: equal to a pruned size and left as they are, as other methods than the "
        "forward read them, if any; set what these methods need"
    ]


def _repeating(graph: Groups, kept: Kept, changed: Mapping[str, int]) -> Iterator[tuple[AttributeKey, Now]]:
    """The attributes that equal a pruned size inside of their module, and what that size becomes."""
    own = {path for path, module in modules_of(graph.model) if not _is_of_torch(type(module))}
    places = {
        place: value
        for place, value in graph.trace.attributes.items()
        if value >= _SMALL and place[0] in own and attribute_name(*place) not in changed
    }
    looked_for: dict[str, set[int]] = defaultdict(set)
    for (path, _, _), value in places.items():
        looked_for[path].add(int(value))
    inside = _sizes_inside(graph, looked_for, kept, changed) if places else {}
    for place, value in places.items():
        now = inside.get(place[0], {}).get(int(value), {})
        if not set(now.values()) <= {value} and place not in graph.attributes_read:
            yield place, now


def _is_of_a_config(graph: Groups, place: AttributeKey) -> bool:
    owner = attribute_name(*place).partition("[")[0].rpartition(".")[0]
    return has_config(graph.model) and find_module(graph.model, owner) is None


def _is_of_torch(kind: type) -> bool:
    """Whether a module is torch's own: rules know the attributes of these."""
    return kind.__module__.split(".")[0] == "torch"


def _sizes_inside(
    graph: Groups, looked_for: Mapping[str, set[int]], kept: Kept, changed: Mapping[str, int]
) -> dict[str, dict[int, Now]]:
    """Of the sizes that are looked for inside of modules, by path, those of axes, or else of attributes, and
    what they become.

    Axes of the same layout have the same size whatever is pruned; others are told apart by it.
    """
    tensors = named_tensors(graph.model)
    first = {id(tensors[name]): name for name in kept}  # one that is tied is pruned under its first name
    found: dict[str, dict[int, Now]] = defaultdict(lambda: defaultdict(dict))
    around: dict[str, list[str]] = {}  # by the path of what has the tensor or attribute
    for name, tensor in tensors.items():
        pruned = kept.get(first.get(id(tensor), ""), {})
        modules = _around(name, looked_for, around)
        for axis, size in enumerate(tensor.shape if modules else ()):
            inside_of = [path for path in modules if size in looked_for[path]]
            if inside_of:
                layout = resolve(graph.layout(Member(first[id(tensor)], axis))) if axis in pruned else None
                for path in inside_of:
                    found[path][size][layout] = len(pruned.get(axis, range(size)))
    with_axes = {path: set(sizes) for path, sizes in found.items()}
    for name, new in changed.items():
        modules = _around(name, looked_for, around)
        before = attribute_of(graph.model, name) if modules else 0
        for path in modules:
            if before in looked_for[path] and before not in with_axes.get(path, ()):
                found[path][before][new] = new
    return found


def _around(name: str, paths: Mapping[str, Any], known: dict[str, list[str]]) -> list[str]:
    """Those of the paths whose modules are around what has this name, the innermost first."""
    owner = path = name.rpartition(".")[0]
    if owner not in known:
        known[owner] = [path] if path in paths else []
        while path:
            path = path.rpartition(".")[0]
            if path in paths:
                known[owner].append(path)
    return known[owner]


def _last_name(name: str) -> str:
    """``num_chs`` of ``feature_info[0]['num_chs']``, ``groups`` of ``blocks.0.conv.groups``."""
    plain = name.rstrip("]'").replace("['", ".").replace("[", ".").split(".")
    return next((part for part in reversed(plain) if not part.isdigit()), "")


def _is_named_like(name: str, others: Iterable[str]) -> bool:
    return any(_abbreviates(name, other) for other in others)


@lru_cache(maxsize=4096)
def _abbreviates(name: str, other: str) -> bool:
    """Whether it is the other name, or it cut short: ``in_chs`` is ``in_channels``, ``dim`` ``embed_dim``."""
    words, others = name.split("_"), other.split("_")
    if words == others[-1:]:
        return words != ["size"]  # which may be that of an image
    return len(words) == len(others) and all(map(_cuts, words, others))


def _cuts(word: str, other: str) -> bool:
    if word == other:
        return True
    stem = word.removesuffix("s")
    return len(stem) > 1 and other.startswith(stem)
