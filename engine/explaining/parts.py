"""What an answer to `why` is made of: calls, equations, what holds a group back, where groups end."""

from __future__ import annotations

from attrs import frozen

from .listing import listing

_NAMED = 6  # axes, of one group
_EQUATIONS = 3  # more are counted, not printed


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


def _rule(hop: Hop) -> str:
    return f", rule {hop.rule} {hop.rule_at}" if hop.rule else ""
