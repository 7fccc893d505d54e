"""The kinds of penalty: which slots are pressed in which weights, and how hard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from attrs import define, field, fields
from torch import Tensor

from ...errors import PlanError
from ..grouping import Group
from ..scoring import Tensors
from .slot_numbers import NumberedSlots, Part

Norms = Callable[[], Tensor]


def _number(fits: Callable[[Any], bool], text: str, kinds: tuple[type, ...] = (int, float)) -> Any:
    """A validator: the option is such a number, or it is a `PlanError`."""

    def check(_: Any, attribute: Any, given: Any) -> None:
        if isinstance(given, bool) or not isinstance(given, kinds) or not fits(given):
            raise PlanError(f"{attribute.name} is {text}, not {given!r}")

    return check


@define
class Kind:
    """What presses on which slots: the gradient of an entry is its slots' factor times its direction."""

    def parts(self, tensors: Tensors, group: Group) -> list[Part]:
        """The weights of the group in which its slots are pressed, those that are compared in one part."""
        return [(group, tensors.weights(group))]

    def factors(self, slots: NumberedSlots, norms: Norms, strengths: Tensor) -> Tensor:
        """How hard each slot is pressed in this step, ``(slots.count,)``, as are `strengths`."""
        raise NotImplementedError

    def direction(self, weight: Tensor) -> Tensor:
        """The gradient of a weight's entries before it is multiplied by the factors."""
        return weight

    def state_dict(self) -> dict[str, Any]:
        """What changes from step to step."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        if state:
            raise PlanError(f"this is not the state of {self}: it has {', '.join(state)}")


@define
class ByGroup(Kind):
    """Group sparsity (Fang et al., CVPR 2023, eq. 7 and 8): a slot of all members is pressed as one.

    ``R = sum_k gamma_k I_k`` with ``I_k`` the squared L2 norm of slot k in all weights of the group (biases
    and tables to look up do not count), and ``gamma_k = 2 ** (alpha (I_max - I_k) / (I_max - I_min))``: from
    1 for the strongest slot of the group to ``2 ** alpha`` for the weakest, held constant. The gradient is
    ``strength gamma_k w``: the derivative's factor of 2 is left to the strength, as in weight decay.
    """

    alpha: float = field(default=4.0, validator=_number(lambda given: given >= 0, "a number from 0 up"))

    def factors(self, slots: NumberedSlots, norms: Norms, strengths: Tensor) -> Tensor:
        return strengths * 2 ** (self.alpha * slots.place(norms()))


class ByLayer(ByGroup):
    """The same without grouping: the slots in each weight are compared with each other alone."""

    def parts(self, tensors: Tensors, group: Group) -> list[Part]:
        return [(group, [member]) for member in tensors.weights(group)]


@define
class OnScales(Kind):
    """L1 on the scales of the slots (network slimming, Liu et al., ICCV 2017): ``strength sign(w)``."""

    def parts(self, tensors: Tensors, group: Group) -> list[Part]:
        return [(group, tensors.scales(group))]

    def factors(self, slots: NumberedSlots, norms: Norms, strengths: Tensor) -> Tensor:
        return strengths

    def direction(self, weight: Tensor) -> Tensor:
        return weight.sign()


@define
class Growing(Kind):
    """Growing regularisation (Wang et al., ICLR 2021, GReg-1): weight decay that grows on what will go.

    At the first step the slots with the smallest norms are chosen, the fraction `ratio` of each group. Their
    gradient is ``strength w``, after `every` steps ``2 strength w``, and so on up to ``ceiling w``.
    """

    ratio: float = field(
        default=0.5, validator=_number(lambda given: 0 < given < 1, "a fraction between 0 and 1")
    )
    every: int = field(
        default=10, validator=_number(lambda given: given > 0, "a whole number from 1 up", (int,))
    )
    ceiling: float = field(default=1.0, validator=_number(lambda given: given > 0, "a number above 0"))
    steps: int = field(default=0, init=False)
    chosen: Tensor | None = field(default=None, init=False, eq=False)

    def factors(self, slots: NumberedSlots, norms: Norms, strengths: Tensor) -> Tensor:
        if self.chosen is None:
            self.chosen = slots.rank(norms()) < self.ratio
        grown = (strengths * (1 + self.steps // self.every)).clamp_max(self.ceiling)
        self.steps += 1
        return grown * self.chosen.to(grown.device)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "chosen": self.chosen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if set(state) != set(self.state_dict()):
            raise PlanError(f"this is not the state of {self}, which has {', '.join(self.state_dict())}")
        steps, chosen = state["steps"], state["chosen"]
        is_choice = isinstance(chosen, Tensor) and chosen.dtype == torch.bool and chosen.dim() == 1
        if type(steps) is not int or steps < 0 or not (chosen is None or is_choice):
            raise PlanError(f"this is not the state of {self}: steps and chosen are no such things")
        self.steps, self.chosen = steps, chosen


KINDS: dict[str, type[Kind]] = {"group": ByGroup, "layer": ByLayer, "bn_scale": OnScales, "growing": Growing}


def kind_of(given: str | Kind, options: Mapping[str, Any]) -> Kind:
    """A kind by name with its options, or the object itself."""
    if isinstance(given, Kind) and not options:
        return given
    if not isinstance(given, str) or given not in KINDS:
        raise PlanError(f"there is no kind of regularizer {given!r}; known are {', '.join(KINDS)}")
    known = [one.name for one in fields(KINDS[given]) if one.init]
    for option in options:
        if option not in known:
            has = f"only {', '.join(known)}" if known else "none"
            raise PlanError(f"the regularizer {given!r} has no option {option!r}, {has}")
    return KINDS[given](**options)
