"""How often an operation was tried under one kind of malice, and how often it broke."""

from __future__ import annotations

from attrs import define, field

_SHOWN = 5


@define
class Tally:
    """One row of the table that `make chaos` prints."""

    operation: str
    tried: int = 0
    broken: int = 0
    first: list[str] = field(factory=list)  # the first few that broke, described so that they can be repeated

    def count(self, fault: str | None) -> None:
        """One more try, and what was wrong with it, if anything was."""
        self.tried += 1
        if fault is not None:
            self.broken += 1
            self.first = [*self.first, fault][:_SHOWN]

    def add(self, other: Tally) -> None:
        """Take the tries of another tally of the same operation into this one."""
        self.tried += other.tried
        self.broken += other.broken
        self.first = [*self.first, *other.first][:_SHOWN]


def merged(tallies: list[Tally]) -> list[Tally]:
    """One tally for each operation."""
    found: dict[str, Tally] = {}
    for one in tallies:
        found.setdefault(one.operation, Tally(one.operation)).add(one)
    return list(found.values())
