"""What a schedule is to reach, and how far it is: fractions of the whole model, step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from itertools import pairwise
from math import inf, isclose
from typing import Any

from ...errors import PlanError
from ..choosing import ByPattern, Options, bundles_of, kept_slots, matches, scope_of
from ..graph import DependencyGraph
from ..result import Result

# The fraction to keep once a part of the steps is done, above 0 and up to 1, for what is kept in the end.
Curve = Callable[[float, float], float]


def _geometric(done: float, final: float) -> float:
    """Each step removes the same fraction of what is left."""
    return final**done


def _linear(done: float, final: float) -> float:
    """Each step removes the same amount."""
    return 1 - (1 - final) * done


def _cubic(done: float, final: float) -> float:
    """Much at first, little at last (Zhu and Gupta, 2017)."""
    return final + (1 - final) * (1 - done) ** 3


CURVES: dict[str, Curve] = {"geometric": _geometric, "linear": _linear, "cubic": _cubic}


class Goal:
    """A budget, or a ratio for each group, of the whole model, and the options of `prune` that lead there.

    `prune` takes fractions of the model that it is given, so those of the whole are divided by what is left.

    Parameters
    ----------
    graph : the whole model, analysed.
    options : how much is to be left of which groups in the end.
    curve : a name in `CURVES` or a function of that form.
    steps : in how many steps; `PlanError` if the curve does not lead to the budget in them.
    """

    def __init__(self, graph: DependencyGraph, options: Options, curve: str | Curve, steps: int):
        self.budget, ratio = options.budget, options.removed
        self.final = 1 - ratio if self.budget is None else self.budget.fraction
        name, fraction = ("ratio", ratio) if self.budget is None else (self.budget.name, self.final)
        self.name = f"{name}={float(fraction)}"
        self._curve = _checked(curve, self.final, steps)
        bundles = bundles_of(graph, options)
        groups = [group for bundle in bundles for group in bundle.groups]
        self._whole = {group.name: group.size for group in groups}
        self._left = dict(self._whole)
        self._only = _fitting(graph, options.only)
        # The slots that go at once, which stay the same when the group has shrunk.
        self._grain = {
            one.name: bundle.kept(one, bundle.every) for bundle in bundles for one in bundle.groups
        }
        # Of one ratio for all groups, too, each group keeps account: rounding would add up over the steps.
        alone = self.budget is None and scope_of(graph, options.scope) in ("local", "uniform")
        self._own = {group.name: 1 - ratio for group in groups if alone}
        ratios = ByPattern(graph, options.ratios or {}, "ratios")
        self._own.update((one.name, 1 - own) for one in groups if (own := ratios.of(one)) is not None)
        self._priced = 1.0

    @property
    def kept(self) -> float:
        """What is left of the whole model: of the cost in question, or of the slots."""
        if self.budget is not None:
            return self._priced
        return sum(self._left.values()) / max(1, sum(self._whole.values()))

    def options(self, done: float) -> dict[str, Any]:
        """The options of `prune` with which `done` of the steps will be, above 0 and up to 1."""
        only = [pattern for pattern, fitting in self._only.items() if any(map(self._is_group, fitting))]
        if self._only and not only:
            return {"only": [], "ratio": 0.0, "ratios": {}}
        return {"only": only, **self._amounts(done)}

    def _is_group(self, name: str) -> bool:
        """Whether it still is: an axis of one slot is no group any more."""
        return self._left.get(name) != 1

    def _amounts(self, done: float) -> dict[str, Any]:
        """How much is to go of the model that is left: the options that say so."""
        share = self._curve(done, self.final)
        ratios = {
            name: max(0.0, 1 - self._slots(name, done) / self._left[name])
            for name in self._own
            if name in self._left and self._is_group(name)
        }
        if self.budget is None:
            others = [name for name in self._whole if name not in self._own]
            left = sum(self._left[name] for name in others)
            before = sum(self._whole[name] for name in others)
            return {"ratio": max(0.0, 1 - share * before / left) if left else 0.0, "ratios": ratios}
        share = min(1.0, share / self._priced)
        seconds = self.budget.seconds
        return {self.budget.name: share if seconds is None else (share, seconds), "ratios": ratios}

    def _slots(self, name: str, done: float) -> float:
        """How many slots a group with a ratio of its own is to have left, before they are rounded up."""
        whole, grain, final = self._whole[name], self._grain[name], self._own[name]
        slots = whole * self._curve(done, final)
        if self.budget is None:
            return slots
        # The others pay what a group lags behind, and more than the budget would go once it follows.
        return max(whole * final, (slots + 1e-9) // grain * grain)

    def after(self, result: Result) -> Goal:
        """The same goal, nearer by what was removed."""
        left = {**self._left, **{name: len(slots) for name, slots in result.plan.groups.items()}}
        priced = self._priced
        if self.budget is not None:
            priced *= self.budget.price(result.graph)(kept_slots(result.graph, result.plan))
        return self.at({"whole": self._whole, "left": left, "priced": priced})

    def state_dict(self) -> dict[str, Any]:
        """How far it is, as plain data."""
        return {"whole": dict(self._whole), "left": dict(self._left), "priced": self._priced}

    def fits(self, state: Mapping[str, Any]) -> bool:
        """Whether `at` can go on from this: it has possible sizes of groups that are here."""
        whole, left = state["whole"], state["left"]
        here = [name for name in self._left if name in whole]
        return (
            all(type(left[name]) is type(size) is int for name, size in whole.items())
            and all(0 < left[name] <= size for name, size in whole.items())
            and all(self._left[name] in (whole[name], left[name]) for name in here)
            and bool(here or not self._left)
            and isinstance(state["priced"], (int, float))
            and 0 < state["priced"] < inf
        )

    def at(self, state: Mapping[str, Any]) -> Goal:
        """The same goal, as far as `state_dict` told."""
        goal = copy(self)
        goal._whole, goal._left = dict(state["whole"]), dict(state["left"])
        goal._priced = state["priced"]
        return goal

    def __str__(self) -> str:
        what = "slots" if self.budget is None else self.budget.name
        return f"{self.kept:.1%} of the {what} left, {self.final:.1%} in the end"


def _fitting(graph: DependencyGraph, patterns: str | Sequence[str]) -> dict[str, list[str]]:
    """The names of the groups that each pattern fits."""
    return {
        pattern: [group.name for group in [*graph.groups, *graph.blocked] if matches(group, pattern)]
        for pattern in ([patterns] if isinstance(patterns, str) else patterns)
    }


def _checked(curve: str | Curve, final: float, steps: int) -> Curve:
    """The curve, by name or itself, if it goes down to the budget; else a `PlanError`."""
    if isinstance(curve, str):
        if curve not in CURVES:
            raise PlanError(f"there is no curve {curve!r}; known are {', '.join(CURVES)}, or pass a function")
        curve = CURVES[curve]
    kept = [1.0, *(curve((step + 1) / steps, final) for step in range(steps))]
    if any(later > earlier + 1e-9 for earlier, later in pairwise(kept)) or not isclose(kept[-1], final):
        shown = ", ".join(f"{one:.3g}" for one in kept[1:])
        raise PlanError(f"the curve must go down from 1 to {final:.3g} in {steps} steps, not by {shown}")
    return curve
