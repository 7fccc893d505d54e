"""What a user may ask of a choice, checked once; and what is chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import field, frozen
from torch import Tensor

from ...adapters.plan import Plan
from ...errors import PlanError
from ..calibrating import Measured
from ..scoring import Criterion, Loss
from .budget import Budget
from .cost import COSTS
from .scopes import SCOPES


@frozen
class Options:
    """Which slots are to be removed: those with the lowest scores, from every group that may be pruned.

    `engine.prune` describes each of them; ``values`` are the tensors by name where the model has none itself.

    Raises
    ------
    PlanError
        For a ratio outside [0, 1), two budgets, or another number or word that there is not.
    """

    ratio: float | None = None
    params: float | None = field(default=None, kw_only=True)
    macs: float | None = field(default=None, kw_only=True)
    latency: Any = field(default=None, kw_only=True)
    scope: str | None = field(default=None, kw_only=True)
    ratios: Mapping[str, float] | None = field(default=None, kw_only=True)
    criterion: str | Criterion = field(default="magnitude", kw_only=True)
    data: Iterable[Any] | Measured | None = field(default=None, kw_only=True)
    loss: Loss | None = field(default=None, kw_only=True)
    tokenizer: Any = field(default=None, kw_only=True)
    values: Mapping[str, Tensor] | None = field(default=None, kw_only=True)
    skip: Sequence[str] = field(default=(), kw_only=True)
    only: Sequence[str] = field(default=(), kw_only=True)
    kinds: Sequence[str] = field(default=(), kw_only=True)
    round_to: int = field(default=1, kw_only=True)
    min_keep: float = field(default=1, kw_only=True)
    exact_only: bool = field(default=False, kw_only=True)
    budget: Budget | None = field(init=False)

    @budget.default
    def _budget(self) -> Budget | None:
        given = {name: getattr(self, name) for name in COSTS if getattr(self, name) is not None}
        if len(given) + (self.ratio is not None) > 1:
            raise PlanError(f"ratio, {', '.join(COSTS)} are ways to say how much goes; give one of them")
        return next((Budget.of(*one) for one in given.items()), None)

    @property
    def removed(self) -> float:
        """The ratio, where there is no budget."""
        return 0.5 if self.ratio is None else self.ratio

    def __attrs_post_init__(self) -> None:
        if self.scope is not None and (not isinstance(self.scope, str) or self.scope not in SCOPES):
            raise PlanError(f"scope is one of {', '.join(SCOPES)}, not {self.scope!r}")
        if not isinstance(self.round_to, int) or self.round_to < 1:
            raise PlanError(f"round_to must be a whole number of at least 1, not {self.round_to!r}")
        if not isinstance(self.min_keep, (int, float)) or not _is_least(self.min_keep):
            raise PlanError(f"min_keep is a number of slots, or a fraction below 1, not {self.min_keep!r}")
        ratios = self.ratios or {}
        if not isinstance(ratios, Mapping):
            raise PlanError(f"ratios= gives ratios by pattern, as in {{'layer1.*': 0.25}}, not {ratios!r}")
        for given in [self.removed, *ratios.values()]:
            if not isinstance(given, (int, float)) or not 0 <= given < 1:
                raise PlanError(f"a ratio is a fraction to remove, from 0 to below 1; {given!r} is not")


def _is_least(number: float) -> bool:
    return 0 < number < 1 or (number >= 1 and float(number).is_integer())


@frozen
class Choice:
    """A plan; a note for each budget that was not met closely; and why nothing is removed, by the name of
    each group that was made to be pruned."""

    plan: Plan
    notes: tuple[str, ...]
    left_alone: Mapping[str, str]
