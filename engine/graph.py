"""The dependency graph of a model: its groups, and the questions that it answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import networkx as nx

from ..adapters.plan import Plan
from .choosing import Choice, Options, Unreached, choose, plan_by_hand, unreached_tensors
from .explaining import Explanation, explain
from .grouping import Groups
from .proving import Unknown, unknown_calls


class DependencyGraph(Groups):
    """What may be pruned in a model, what must go along, and what stays: the result of `analyze`.

    ``groups`` are the groups that may be pruned, ``blocked`` those that may not, each with the reason;
    ``trace`` is what the model did.
    """

    @property
    def network(self) -> nx.DiGraph:
        """The traced model as a networkx graph of values and calls."""
        return self.trace.network

    @cached_property
    def unknown(self) -> list[Unknown]:
        """The calls without a rule, with the axes that each costs and a rule to start from."""
        return unknown_calls(self)

    @cached_property
    def unreached(self) -> list[Unreached]:
        """The parameters and buffers that no traced forward used and that keep their shapes."""
        return unreached_tensors(self)

    def why(self, a: str, b: str | None = None) -> Explanation:
        """Why the layers, parameters or axes `a` and `b` shrink together or do not; alone: what holds `a`.

        The answer prints as text, is plain data by `to_dict` and a picture by `to_dot`; see docs/why.md.
        Raises `PlanError` for a name that the model does not have.
        """
        return explain(self, a, b)

    def plan(self, kept: dict[str, Sequence[int]]) -> Plan:
        """The plan that keeps these slots of these groups; raises `PlanError` if it cannot be carried out."""
        return plan_by_hand(self, kept)

    def choose(self, ratio: float | None = None, **options: Any) -> Plan:
        """The plan for a ratio or budget; options are those of `engine.prune`."""
        return self.choice(ratio, **options).plan

    def choice(self, ratio: float | None = None, **options: Any) -> Choice:
        """The same with what there is to say of it: notes, and why groups are left alone."""
        return choose(self, Options(ratio, **options))
