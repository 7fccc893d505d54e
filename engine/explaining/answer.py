"""Answers to `why`: values that print as text, and are plain data or a Graphviz graph on demand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from attr import asdict
from attrs import frozen

from ..axes import SlotRelation
from ..tracing import Flattening
from .graphviz import Drawing, label_of
from .listing import listing
from .parts import AxisGroup, Held, Hop, Meeting

# More hops than this are not printed; their data has them all.
_SHOWN = 40
_NAMED = 6


@frozen
class Explanation(Flattening):
    """The answer to `why`.

    ``kind`` is ``coupled``, ``tied``, ``apart`` or ``unknown`` for two names, and for one ``free``,
    ``follows`` or ``held``. A coupling has a path from axis to axis, the relation of its slots, the calls
    that each alone hold the two together (``None`` where nothing but their own calls lies between), and what
    holds the group back. The others have a list of axes with their groups.
    """

    kind: str
    headline: str
    start: str = ""
    end: str = ""
    path: tuple[Hop, ...] = ()
    relation: SlotRelation | None = None
    cuts: tuple[Hop, ...] | None = None
    also: tuple[str, ...] = ()
    held: tuple[Held, ...] = ()
    axes: tuple[AxisGroup, ...] = ()
    meeting: Meeting | None = None

    def __str__(self) -> str:
        lines = [self.headline]
        if self.start:
            lines += ["", f"  {self.start}", *_table(self.path)]
            lines += [f"  {self.end}"] if self.end != self.start else []
        if self.remarks:
            lines += ["", *(f"  {remark}" for remark in self.remarks)]
        return "\n".join(lines)

    @property
    def remarks(self) -> list[str]:
        """The printed lines below the path."""
        found = [str(self.relation)] if self.relation else []
        if self.path:
            found.append(self._cutting())
        found += [f"They also share {one}." for one in self.also]
        found += [line for held in self.held for line in held.lines()]
        found += [str(self.meeting)] if self.meeting else []
        wide = [line for axis in self.axes if not axis.alone for line in axis.lines()]
        return found + wide + _alone([axis for axis in self.axes if axis.alone])

    def _cutting(self) -> str:
        if self.cuts is None:
            return "Nothing but their own calls lies between them."
        if not self.cuts:
            return "No single operation couples them: there are at least two separate ways."
        any_one = "any one of: " if len(self.cuts) > 1 else ""
        return f"Cutting {any_one}{listing(_names(self.cuts), _NAMED)} would separate them."

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data: dicts, lists, text and numbers; ``remarks`` are the printed lines."""
        data = asdict(self, retain_collection_types=False)
        if self.relation is not None:
            data["relation"]["text"] = str(self.relation)
        return {**data, "remarks": self.remarks}

    def to_dot(self) -> str:
        """The path, or what holds each group back, as Graphviz text."""
        return _to_dot(self)


def _alone(axes: Sequence[AxisGroup]) -> list[str]:
    """Axes that nothing is coupled with, those that are held alike in one line."""
    alike: dict[Held, list[str]] = {}
    for axis in axes:
        alike.setdefault(axis.held[0], []).append(axis.axes[0])
    return [f"{listing(names, _NAMED)}: {line}" for held, names in alike.items() for line in held.lines()]


def _names(hops: Sequence[Hop]) -> list[str]:
    """Calls by operation and module, and by line where that is not enough: ``add (layer1.0)``."""
    counts = Counter((hop.operation, hop.module) for hop in hops)
    names = []
    for hop in hops:
        alone = hop.module and counts[hop.operation, hop.module] == 1
        where = [hop.module, "" if alone else hop.source.rpartition("/")[2]]
        names.append(f"{hop.operation} ({', '.join(filter(None, where))})")
    return names


def _table(path: Sequence[Hop]) -> Iterable[str]:
    """The hops as lines of a table; the middle of a long path is left out.

    The module is shown where one line of the source is passed in several modules.
    """
    modules: dict[str, set[str]] = {}
    for hop in path:
        modules.setdefault(hop.source, set()).add(hop.module)
    half = _SHOWN // 2
    shown = path if len(path) <= _SHOWN else [*path[:half], *path[-half:]]
    several = {source for source, found in modules.items() if len(found) > 1}
    rows = [(*hop.row(), f"({hop.module})" if hop.module and hop.source in several else "") for hop in shown]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(6)]
    lines = ["    " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    if len(shown) < len(path):
        lines.insert(half, f"    ... {len(path) - len(shown):,} more ...")
    return lines


def _to_dot(answer: Explanation) -> str:
    """An undirected graph: axes are boxes, calls ellipses, those that each alone couple are drawn bold."""
    drawing = Drawing()
    if answer.start:
        cuts = set(answer.cuts or ())
        last = drawing.node(answer.start, "box")
        for hop in answer.path:
            last = drawing.link(last, label_of(hop), "ellipse", style="bold" if hop in cuts else "solid")
        if answer.path:
            drawing.edge(last, drawing.node(answer.end, "box"))
    for axis in answer.axes:
        group = drawing.node(f"{axis.group}\n{axis.slots} slots", "folder")
        for name in axis.axes:
            drawing.edge(drawing.node(name, "box"), group)
        drawing.held(group, axis.held)
        if axis.end:
            drawing.link(group, f"{axis.end.text}\n{label_of(axis.end.at)}", "octagon")
        if axis.near:
            drawing.link(group, axis.near.layer, "box", label=f"{axis.near.calls} calls")
    if answer.start:
        drawing.held(drawing.node(answer.start, "box"), answer.held)
    return drawing.text(answer.headline)
