"""Kinds of groups in words: hidden units, heads, the residual stream; and which of them stay whole."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from ...adapters.inputs import is_language_model
from ...errors import PlanError
from ..axes import atoms
from ..grouping import Group, Groups
from .patterns import as_patterns

STREAM, HIDDEN, PART = "stream", "hidden", "part"
_WHOLE = f"the residual stream of a language model stays whole unless kinds= has {STREAM!r} or only= names it"


class Kinds:
    """What ``kinds=`` and ``only=`` ask for; nothing in particular if both are empty."""

    def __init__(self, graph: Groups, kinds: Sequence[str] = (), only: Sequence[str] = ()):
        self._kinds, self._only = as_patterns(kinds), as_patterns(only)
        self._parts = {atom for whole in graph.products for atom in atoms(whole)}
        self._protects = is_language_model(graph.model)
        known = {STREAM, HIDDEN, *(group.kind for group in graph.groups)}
        for kind in self._kinds:
            if kind not in known:
                raise PlanError(f"kinds: there is no {kind!r} here, there are {', '.join(sorted(known))}")

    def why_not(self, group: Group) -> str | None:
        """Why a group is left alone, if it is."""
        if self._kinds:
            return None if {self.role(group), group.kind} & {*self._kinds} else "not among kinds="
        if self._protects and self.role(group) == STREAM and not self._names(group):
            return _WHOLE
        return None

    def role(self, group: Group) -> str:
        """Part of a product, as heads are, or else stream or hidden.

        Layers of several modules make the slots of a stream, as all blocks do that add to it.
        """
        if group.atom in self._parts:
            return PART
        makers = {producer.rpartition(".")[0].rpartition(".")[0] for producer in group.producers}
        return STREAM if len(makers) > 1 else HIDDEN

    def _names(self, group: Group) -> bool:
        return any(fnmatchcase(group.name, pattern) or group.kind == pattern for pattern in self._only)
