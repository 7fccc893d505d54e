"""Attributes that repeat a pruned size, and that only other methods than the forward read: for fusing, say.

Whether a number that equals a width is that width, only its reader knows. It is taken for certain where
every axis of that size inside of the module is pruned to one and the same size, and the attribute is named
like one that a module rule or the plan knows as a size, or for short. All others stay, and are named.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..adapters.modules import attribute_of
from ..adapters.tensors import named_tensors
from .sizes import Attribute, SizeInt, leaves
from .values import Trace

if TYPE_CHECKING:
    from .groups import Groups
    from .plan import Plan

_SMALL = 4  # a smaller number is a stride or a depth as often as a width
_SHOWN = 4
Place = tuple[str, str, Any]  # path of the module, attribute, and key inside of it
Kept = Mapping[str, Mapping[int, Sequence[int]]]


def followed(graph: Groups, kept: Kept, changed: Mapping[str, int]) -> dict[str, int]:
    """New values of the attributes that certainly repeat a pruned size, besides those that are `changed`."""
    names = graph.rules.size_names | {_last_name(name) for name in changed}
    return {
        attribute_name(*place): next(iter(sizes))
        for place, sizes in _repeating(graph, kept, changed)
        if len(sizes) == 1 and any(_abbreviates(_last_name(attribute_name(*place)), name) for name in names)
    }


def repeated_notes(graph: Groups, plan: Plan) -> list[str]:
    """A line about the attributes that may repeat a pruned size, and stay as they are."""
    left = [place for place, _ in _repeating(graph, plan.tensors, plan.attributes)]
    if not left:
        return []
    shown = [f"{attribute_name(*place)} = {graph.trace.attributes[place]}" for place in left[:_SHOWN]]
    more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    return [
        f"{', '.join(shown)}{more}: equal to a pruned size and left as they are, as other methods than the "
        "forward read them, if any; set what these methods need"
    ]


def attribute_name(path: str, name: str, key: Any) -> str:
    """The dotted name of an attribute: ``blocks.0.attn.num_heads``, ``norm.normalized_shape[0]``."""
    dotted = f"{path}.{name}" if path else name
    return dotted + "".join(f"[{part!r}]" for part in key or ())


def _repeating(graph: Groups, kept: Kept, changed: Mapping[str, int]) -> Iterator[tuple[Place, set[int]]]:
    """The attributes that equal a pruned size inside of their module, and what becomes of axes of that size."""
    sizes = _sizes_inside(graph, kept, changed)
    read = _read_by_the_forward(graph.trace)
    for place, value in graph.trace.attributes.items():
        path = place[0]
        others = sizes[path].get(int(value), set()) - {value} if value >= _SMALL and path in sizes else set()
        if not others or place in read or attribute_name(*place) in changed:
            continue
        if type(graph.model.get_submodule(path)).__module__.split(".")[0] != "torch":  # rules know these
            yield place, sizes[path][int(value)]


def _sizes_inside(graph: Groups, kept: Kept, changed: Mapping[str, int]) -> dict[str, dict[int, set[int]]]:
    """For every module what becomes of the sizes inside of it: of axes of tensors, and of attributes."""
    tensors = named_tensors(graph.model)
    axes = {id(tensors[name]): pruned for name, pruned in kept.items()}  # also of a tied one's other names
    found: dict[str, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    pairs = {name: {(attribute_of(graph.model, name), new)} for name, new in changed.items()}
    for name, tensor in tensors.items():
        pruned = axes.get(id(tensor), {})
        pairs[name] = {(size, len(pruned.get(axis, range(size)))) for axis, size in enumerate(tensor.shape)}
    for name, own in pairs.items():
        while name:
            name = name.rpartition(".")[0]
            for size, left in own:
                found[name][size].add(left)
    return found


def _read_by_the_forward(trace: Trace) -> set[Place]:
    """The attributes that calls, comparisons and numbers of the forward are made of."""
    sides = [side for one in trace.conditions for side in (one.left, one.right)]
    given = [number.expr for call in trace.calls for number in _numbers_in(call.arguments)]
    found = (leaf for expr in [*sides, *(one.expr for one in trace.numbers), *given] for leaf in leaves(expr))
    return {(leaf.path, leaf.name, leaf.key) for leaf in found if isinstance(leaf, Attribute)}


def _numbers_in(item: Any) -> Iterator[SizeInt]:
    if isinstance(item, SizeInt):
        yield item
    elif isinstance(item, slice):
        yield from _numbers_in((item.start, item.stop, item.step))
    elif isinstance(item, (dict, tuple, list)):
        parts: Iterable[Any] = item.values() if isinstance(item, dict) else item
        for part in parts:
            yield from _numbers_in(part)


def _last_name(name: str) -> str:
    """``num_chs`` of ``feature_info[0]['num_chs']``, ``groups`` of ``blocks.0.conv.groups``."""
    plain = name.rstrip("]'").replace("['", ".").replace("[", ".").split(".")
    return next((part for part in reversed(plain) if not part.isdigit()), "")


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
