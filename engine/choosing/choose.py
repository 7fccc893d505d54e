"""Chooses the slots to keep: how many of every group, and which ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress

import numpy as np
import torch
from attrs import evolve

from ...adapters.collector import paused
from ...adapters.inputs import is_language_model
from ...errors import PlanError
from ..axes import Atom
from ..grouping import Group, Groups
from ..scoring import Criterion, Tensors, criterion_of
from .budget import UnmetError
from .bundles import Bundle
from .kinds import HIDDEN
from .make_plan import make_plan
from .near import keep_more
from .options import Choice, Options
from .patterns import ByPattern
from .scopes import families_of, scope_of
from .selection import bundles_and_others
from .uniform import merged

_FEWEST_HIDDEN = 0.25
_HIDDEN_ALONE = (
    "hidden units alone meet the budget, which costs a language model least: heads and the residual stream "
    "stay whole unless kinds= or only= names them"
)


def choose(graph: Groups, options: Options) -> Choice:
    """The plan that removes the slots with the lowest scores from every group that may be pruned.

    At least one slot of each group stays, and without a budget never more than the ratio goes. A language
    model that nothing else is asked of loses hidden units alone if a quarter of them meets the budget: that
    costs it least. Raises `PlanError` for a budget that cannot be met, a pattern that fits nothing, and what
    criteria complain of.
    """
    # Where no model runs on data, all that is made here stays until the choice is made.
    with paused() if options.data is None else nullcontext():
        return _with_fewest_kinds(graph, options)


def _with_fewest_kinds(graph: Groups, options: Options) -> Choice:
    if options.budget is not None and not (options.kinds or options.only) and is_language_model(graph.model):
        least = _FEWEST_HIDDEN if options.min_keep == 1 else options.min_keep
        with suppress(UnmetError):
            found = _choose(graph, evolve(options, kinds=(HIDDEN,), min_keep=least))
            return evolve(found, notes=(*found.notes, _HIDDEN_ALONE))
    return _choose(graph, options)


def _choose(graph: Groups, options: Options) -> Choice:
    budget = options.budget
    scope = scope_of(graph, options.scope)
    wanted = _Wanted(graph, options)
    tensors = Tensors(graph, options.data, options.loss, options.tokenizer, options.values)
    ranked = _Ranked(graph, criterion_of(options.criterion), tensors)
    price = None if budget is None else budget.price(graph)
    rigid: dict[Atom, str] = {}
    raised: dict[Atom, int] = {}
    while True:
        bundles, left_alone = bundles_and_others(graph, options, rigid)
        if scope == "uniform":
            alike = [bundle for bundle in bundles if wanted.of(bundle) is None]
            others = [bundle for bundle in bundles if bundle not in alike]
            bundles = [*others, *merged(graph, alike, options)]
        shrink = _shrinking(graph, bundles, wanted, scope, ranked, raised)
        if budget is None or price is None:
            shrink(wanted.ratio)
        else:
            budget.meet(price, bundles, shrink)
        steps = [bundle.steps for bundle in bundles]
        found = keep_more(graph, bundles)
        more = {
            bundle.groups[0].atom: bundle.steps
            for bundle, before in zip(bundles, steps)
            if bundle.steps > before
        }
        if not found and (budget is None or more.keys() <= raised.keys()):
            break
        rigid.update(found)  # the other bundles make up for what the code does not let go
        raised.update(more if budget is not None else {})
    notes = () if budget is None or price is None else tuple(budget.missed(price, bundles))
    for bundle in bundles:
        if bundle.steps == bundle.whole:
            left_alone.update((group.name, _why_whole(bundle)) for group in bundle.groups)
    return Choice(make_plan(graph, ranked.best(bundles)), notes, left_alone)


class _Wanted:
    """The fraction to remove: one for all, but where a pattern says otherwise."""

    def __init__(self, graph: Groups, options: Options):
        self.ratio = options.removed
        self._ratios = ByPattern(graph, options.ratios or {}, "ratios")

    def of(self, bundle: Bundle) -> float | None:
        """The ratio of a bundle's own, the least that is given for its groups; `None` if no pattern fits."""
        given = map(self._ratios.of, bundle.groups)
        return min([ratio for ratio in given if ratio is not None], default=None)


def _shrinking(
    graph: Groups,
    bundles: list[Bundle],
    wanted: _Wanted,
    scope: str,
    ranked: _Ranked,
    raised: Mapping[Atom, int],
) -> Callable[[float], None]:
    """What sets the bundles' steps for a ratio, but for those with a ratio of their own and `raised` ones."""
    others = []
    for bundle in bundles:
        if (ratio := wanted.of(bundle)) is not None:
            bundle.keep(1 - ratio)
        elif bundle.groups[0].atom in raised:
            bundle.steps = raised[bundle.groups[0].atom]
        else:
            others.append(bundle)
    families = families_of(scope, graph, others, ranked.values)

    def shrink(ratio: float) -> None:
        for family in families:
            family.shrink(ratio)

    return shrink


def _why_whole(bundle: Bundle) -> str:
    if bundle.least == bundle.whole:
        return bundle.fewest
    return f"none of its {bundle.whole} steps goes at this ratio"


class _Ranked:
    """The slots of every group, best first, by a criterion that is asked once for each group."""

    def __init__(self, graph: Groups, criterion: Criterion, tensors: Tensors):
        self._criterion = criterion
        self._tensors = tensors
        self._known: dict[Group, tuple[np.ndarray, np.ndarray]] = {}

    def best(self, bundles: Sequence[Bundle]) -> dict[Atom, np.ndarray]:
        """The slots that are kept, in order; of equal ones the first."""
        return {
            group.atom: np.sort(self._of(group)[0][: bundle.kept(group)])
            for bundle in bundles
            if bundle.steps < bundle.whole
            for group in bundle.groups
        }

    def values(self, bundle: Bundle) -> np.ndarray:
        """The mean score of the slots in each step of a bundle, best first."""
        total = np.zeros(bundle.whole)
        for group in bundle.groups:
            total += self._of(group)[1].reshape(bundle.whole, -1).sum(1)
        return total / (bundle.slots // bundle.whole)

    def _of(self, group: Group) -> tuple[np.ndarray, np.ndarray]:
        """The slots of a group, best first, and their scores."""
        if group not in self._known:
            scores = self._scores(group)
            order = np.argsort(-scores, kind="stable")
            self._known[group] = order, scores[order]
        return self._known[group]

    def _scores(self, group: Group) -> np.ndarray:
        scores = self._criterion(group, self._tensors)
        if not isinstance(scores, torch.Tensor):
            raise PlanError(f"the criterion gave {scores!r} for {group.name}, which is no tensor of scores")
        if tuple(scores.shape) != (group.size,):
            raise PlanError(
                f"the criterion gave scores of shape {tuple(scores.shape)} "
                f"for {group.name} of {group.size} slots"
            )
        if scores.is_meta:
            raise PlanError("weights on the meta device cannot be ranked; load them, or rank at random")
        return np.nan_to_num(scores.detach().double().cpu().numpy())
