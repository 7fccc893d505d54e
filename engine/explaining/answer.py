"""Answers to `why`: values that print as text, and are plain data or a Graphviz graph on demand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from attr import asdict
from attrs import frozen

from ..axes import SlotRelation
from ..tracing import Flattening
from .graphviz import to_dot
from .listing import listing

# More hops than this are not printed; their data has them all.
_SHOWN = 40
_NAMED = 6
_EQUATIONS = 3


@frozen
class Hop:
    """A factor of a rule in one call: its operation, the rule's place, and the user's line and module."""

    operation: str
    rule: str
    factor: str
    rule_at: str
    source: str
    text: str
    module: str

    def row(self) -> tuple[str, ...]:
        """The columns of the printed path."""
        return self.operation, self.factor, f"{self.rule} {self.rule_at}", self.source, self.text

    @property
    def at(self) -> str:
        """The call with its line: ``add in layer1.0, models/resnet.py:102: out += identity``."""
        where = f" in {self.module}" if self.module else ""
        return f"{self.operation}{where}, {self.source}: {self.text}" if self.source else self.operation


@frozen
class Because:
    """The equation of a tie, and the user's line that needs it."""

    equation: str
    source: str
    text: str

    def __str__(self) -> str:
        return f"because {self.equation}" + (f"  {self.source}    {self.text}" if self.source else "")


@frozen
class Held:
    """What holds a group back: ``kind`` is ``blocked``, ``tied``, ``follows``, ``multiple`` or ``inexact``.

    ``origin`` is the call that blocks or takes a statistic, ``path`` the way there from the axis asked about;
    ``tied`` are the names and sizes of the groups that shrink by the same proportion.
    """

    kind: str
    text: str
    origin: Hop | None = None
    path: tuple[Hop, ...] = ()
    tied: tuple[tuple[str, int], ...] = ()
    equations: tuple[Because, ...] = ()

    def lines(self) -> list[str]:
        """What is printed of it."""
        origin = f" ({self.origin.at}{_rule(self.origin)})" if self.origin else ""
        left = len(self.equations) - _EQUATIONS
        more = [f"and {left} more equations"] if left > 0 else []
        return [f"{self.text}{origin}", *map(str, self.equations[:_EQUATIONS]), *more]


@frozen
class End:
    """Where a group ends on the way to the other layer."""

    text: str
    at: Hop

    def __str__(self) -> str:
        return f"{self.text}: {self.at.at}"


@frozen
class Near:
    """The nearest layer that holds slots of the group, and how many calls it takes to get there."""

    layer: str
    calls: int

    def __str__(self) -> str:
        if self.calls == 0:
            return f"nearest coupled: {self.layer}, in the same call"
        return f"nearest coupled: {self.layer}, {self.calls} call{'s' * (self.calls != 1)} away"


@frozen
class Meeting:
    """A call in which both are, but on different factors, or as different parts of one."""

    one: str
    other: str
    at: Hop

    def __str__(self) -> str:
        what = f"as `{self.one}` of the one and `{self.other}` of the other"
        if self.one == self.other:
            what = f"as different parts of `{self.one}`"
        return f"They meet in one call, {what}: {self.at.at}"


@frozen
class AxisGroup:
    """One group as the axes that were asked about have it."""

    axes: tuple[str, ...]
    group: str
    slots: int
    made: bool
    held: tuple[Held, ...] = ()
    end: End | None = None
    near: Near | None = None

    @property
    def alone(self) -> bool:
        """Whether the group is this one axis, which is held: the extent of a kernel."""
        return self.axes == (self.group,) and [one.kind for one in self.held] == ["blocked"]

    def lines(self) -> list[str]:
        """What is printed of it."""
        role = "made here" if self.made else "read here"
        first = f"{listing(self.axes, _NAMED)}: group {self.group}, {self.slots} slots, {role}"
        details = [str(one) for one in (self.end, self.near) if one]
        details += [line for held in self.held for line in held.lines()]
        return [first, *(f"  {line}" for line in details)]


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
        return to_dot(self)


def _rule(hop: Hop) -> str:
    return f", rule {hop.rule} {hop.rule_at}" if hop.rule else ""


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
