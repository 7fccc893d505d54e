"""What groups are called, and what makes their slots."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable

from ...errors import PlanError
from ..axes import Atom, atoms
from ..coupling import Couplings
from .group import Member


class Names:
    """Names of groups: of the smallest factor that holds the atom, a producer's where there is a choice."""

    def __init__(self, coupled: Couplings):
        self._taken: dict[str, int] = {}
        self._own: dict[Atom, tuple[int, str, str]] = {}
        named = [(one.layout, one.origin, one.factor) for one in coupled.produced]
        named += [(one.layout, one.origin, one.factor) for one in coupled.couplings if one.layout is not None]
        for layout, origin, factor in named:
            if factor.startswith("*"):
                continue
            for atom in atoms(layout):
                known = self._own.get(atom)
                if known is None or layout.size < known[0]:
                    self._own[atom] = layout.size, _join(origin.call.module, factor), factor

    def of(self, atom: Atom, member: Member) -> tuple[str, str]:
        """A name that no other group has, and the kind."""
        _, name, kind = self._own.get(atom) or (0, f"{member.tensor}[{member.axis}]", "axis")
        seen = self._taken.get(name, 0)
        self._taken[name] = seen + 1
        return (f"{name}[{seen}]" if seen else name), kind


def producers_of(coupled: Couplings) -> dict[Atom, list[str]]:
    found: dict[Atom, list[str]] = defaultdict(list)
    for produced in coupled.produced:
        name = _join(produced.origin.call.module, produced.factor)
        for atom in atoms(produced.layout):
            found[atom].append(name)
    return found


def unknown_name(what: str, name: str, known: Iterable[str]) -> PlanError:
    """The error for `what`, a group or a layer, that the model does not have."""
    close = difflib.get_close_matches(name, list(known), 1)
    hint = f"did you mean {close[0]!r}?" if close else "`graph.groups` lists what there is"
    return PlanError(f"there is no {what} {name!r}; {hint}")


def _join(module: str, name: str) -> str:
    return f"{module}.{name}" if module else name
