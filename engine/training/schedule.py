"""Iterative pruning: a little at a time, between steps of training, from the whole model to a budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce
from inspect import signature
from operator import index
from typing import Any

from attrs import evolve, frozen
from torch import nn

from ...adapters.plan import Plan
from ...adapters.tensors import named_tensors
from ...errors import PlanError
from ..calibrating import check_correction, corrections, prepared
from ..choosing import Options
from ..graph import DependencyGraph
from ..prune import apply, prune
from ..result import Result
from ..scoring import CALIBRATED, check_alike, criterion_of
from ..tracing import alone, inner
from .goal import Curve, Goal

# Options of `prune` that are not tried: what the scores are taken from, and how a plan is carried out.
_LATER = ("criterion", "loss", "compensate", "sequential", "verify")
# Those that say how much is to go of what.
_AMOUNTS = ("scope", "ratios", "skip", "only", "kinds", "round_to", "min_keep")
# Those that a schedule does not pass on.
_OWN = ("model", "optimizer", "dry_run")


@frozen
class _Progress:
    """How far a schedule is: one object, so that an interrupt comes between no two parts of it."""

    iteration: int
    step: int
    goal: Goal
    plans: tuple[Plan, ...]

    def after(self, result: Result) -> _Progress:
        """After one more step, with this result."""
        return _Progress(
            self.iteration + 1, self.step + 1, self.goal.after(result), (*self.plans, result.plan)
        )


class Schedule:
    """Prunes a model in several steps while it is trained.

    ::

        schedule = engine.Schedule(model, optimizer=optimizer, example_inputs=x, macs=0.5, steps=5, every=100)
        for inputs, labels in batches:
            ...
            optimizer.step()
            schedule.step()

    Parameters
    ----------
    model : changed in place by each step.
    optimizer : its state is sliced along; one, or several in a list.
    ratio, params, macs, latency : the budget, as for `prune`, of the model as it is now; reached with the
        last step. None means ``ratio=0.5``.
    ratios : other ratios by group name, kind or module pattern, also of the model as it is now.
    steps : how many times the model is pruned.
    every, start : at the iterations ``start``, ``start + every``, ... counted from 0.
    curve : how much is kept after each step: ``"geometric"`` (each removes the same fraction of what is
        left), ``"linear"`` (the same amount), ``"cubic"`` (much at first), or ``curve(done, final)``, called
        with the part of the steps that is done, up to 1, and the fraction kept in the end, which gives the
        fraction to keep.
    options : of `prune`, for every step: ``criterion``, ``scope``, ``round_to``, ``data``, ``skip``, ...

    Raises
    ------
    PrunusError
        The last step is planned on the whole model first, with random scores. This tells of budgets that
        cannot be met, of patterns that fit nothing, and of options, criteria, ways to compensate and
        calibration data that there are not. What only running the model on data tells is an error of the
        step that does so: a loss or a criterion of yours that fails, gradients that are missing.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        optimizer: Any = None,
        example_inputs: Any = None,
        ratio: float | None = None,
        params: float | None = None,
        macs: float | None = None,
        latency: Any = None,
        steps: int = 5,
        every: int = 100,
        start: int = 0,
        curve: str | Curve = "geometric",
        **options: Any,
    ):
        _check_count("steps", steps, 1)
        _check_count("every", every, 1)
        _check_count("start", start, 0)
        _check_options(options)
        told = {name: options.get(name) for name in ("data", "compensate")}
        check_alike(options.get("criterion", "magnitude"), latency=latency, **told)
        if isinstance(options.get("data"), Iterator):
            options["data"] = list(options["data"])  # every step reads it
        self.model = model
        self.steps, self.every, self.start = steps, every, start
        self._optimizer = optimizer
        self._options = {**options, "example_inputs": example_inputs}
        budget = {"ratio": ratio, "params": params, "macs": macs, "latency": latency}
        wanted = Options(**budget, **{name: options[name] for name in _AMOUNTS if name in options})
        self._progress = _Progress(0, 0, Goal(self._try(budget), wanted, curve, steps), ())

    @property
    def done(self) -> bool:
        """Whether the model has been pruned for the last time."""
        return self._progress.step == self.steps

    @property
    def plan(self) -> Plan:
        """What was removed so far, as one plan for the model as it was at first."""
        return reduce(Plan.followed_by, self._progress.plans, Plan())

    @alone
    def step(self) -> Result | None:
        """Count one iteration of training; if its turn has come, prune the model and return the result.

        What was made for the model's old sizes is to be made again then: a graph, a `Regularizer`.
        A step that fails is not counted, and the next call tries it again.
        """
        now = self._progress
        if self.done or now.iteration < self.start or (now.iteration - self.start) % self.every:
            self._progress = evolve(now, iteration=now.iteration + 1)
            return None
        options = {**self._options, **now.goal.options((now.step + 1) / self.steps)}
        pruned: list[Result] = []
        try:
            pruned.append(inner(prune)(self.model, optimizer=self._optimizer, **options))
            self._progress = now.after(pruned[0])
            return pruned[0]
        except BaseException:
            if pruned:  # the model is, so this step has been done, whatever came up after that
                self._progress = now.after(pruned[0])
            raise

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule is, as plain data."""
        now = self._progress
        own = {"steps": self.steps, "budget": now.goal.name}
        done = {"iteration": now.iteration, "step": now.step, "plan": self.plan.to_json()}
        return {**own, **done, **now.goal.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a schedule of the same model, budget and steps was.

        A model that is still whole is pruned as that one was; load the states of model and optimizer after
        this. Raises `PlanError` for anything else than such a state, or another model; then all is as it was.
        """
        self._check_state(state)
        plan = Plan.from_json(state["plan"])
        progress = _Progress(state["iteration"], state["step"], self._progress.goal.at(state), (plan,))
        try:
            if not _is_carried_out(plan, self.model):
                apply(self.model, plan, optimizer=self._optimizer)
            self._progress = progress
        except BaseException:
            if _is_carried_out(plan, self.model):  # whatever came up after that
                self._progress = progress
            raise

    def _check_state(self, state: Any) -> None:
        if not isinstance(state, Mapping) or set(state) != set(self.state_dict()):
            raise PlanError("this is not the state of a schedule")
        if (state["steps"], state["budget"]) != (self.steps, self._progress.goal.name):
            raise PlanError(
                f"this is the state of a schedule with {state['budget']} and steps={state['steps']}, "
                f"not {self._progress.goal.name} and steps={self.steps}"
            )
        try:
            fits = index(state["iteration"]) >= 0 and 0 <= index(state["step"]) <= self.steps
            fits = fits and self._progress.goal.fits(state)
        except (TypeError, KeyError, AttributeError):
            fits = False
        if not fits:
            raise PlanError(
                "this is the state of a schedule of another model or other options, or a broken one"
            )

    def __str__(self) -> str:
        ahead = "done" if self.done else f"next at iteration {self._due}"
        return f"pruned {self._progress.step} of {self.steps} times: {self._progress.goal}; {ahead}"

    @property
    def _due(self) -> int:
        """The next iteration at which the model is pruned."""
        periods = -(-max(0, self._progress.iteration - self.start) // self.every)
        return self.start + periods * self.every

    def _try(self, budget: Mapping[str, Any]) -> DependencyGraph:
        """Plan the last step on the whole model, so that what cannot be is told before the training."""
        options = {name: given for name, given in self._options.items() if name not in _LATER}
        graph = prune(self.model, criterion="random", dry_run=True, **budget, **options).graph
        data, how = self._options.get("data"), self._options.get("compensate")
        if how is not None or criterion_of(self._options.get("criterion", "random")) in CALIBRATED:
            data = prepared(self.model, data, self._options.get("tokenizer"))
        check_correction(how, self._options.get("sequential"))
        if how is not None:
            corrections(graph, Plan(), data, how)
        return graph


def _check_count(name: str, given: Any, least: int) -> None:
    if isinstance(given, bool) or not isinstance(given, int) or given < least:
        raise PlanError(f"{name} is a whole number from {least} up, not {given!r}")


def _check_options(options: Mapping[str, Any]) -> None:
    known = [name for name in signature(prune).parameters if name not in _OWN]
    for name in options:
        if name not in known:
            raise PlanError(f"{name!r} is no option of a schedule; those of prune are {', '.join(known)}")
    if isinstance(options.get("min_keep"), float) and options["min_keep"] < 1:
        raise PlanError(
            "min_keep is a number of slots in a schedule: a fraction would be one of what is left"
        )


def _is_carried_out(plan: Plan, model: nn.Module) -> bool:
    """Whether the tensors have the shapes that the plan makes."""
    tensors = named_tensors(model)
    return all(
        name in tensors and tensors[name].shape[axis : axis + 1] == (len(kept),)
        for name, axes in plan.sliced.items()
        for axis, kept in axes.items()
    )
