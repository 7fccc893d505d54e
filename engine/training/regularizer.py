"""Sparse training: gradients that press the slots of groups towards zero, so that pruning them costs less."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from attrs import define, field, fields
from torch import Tensor, nn

from ...adapters.submodules import module_at
from ...errors import PlanError
from ..choosing import check_pattern, matches, units_of
from ..grouping import Group, Groups
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


class Regularizer:
    """Adds the gradient of a penalty on the slots of groups: sparse training before pruning.

    ::

        regularizer = engine.Regularizer(engine.analyze(model, x), strength=1e-4)
        ...
        loss.backward()
        regularizer.step()
        optimizer.step()

    It only adds to gradients, so any optimizer will do, and the model may be compiled. With gradient
    accumulation call it once for each step of the optimizer; with a `GradScaler` after
    ``scaler.unscale_(optimizer)``, as the scaler would divide what was added, too; before clipping gradients
    if what is added shall be clipped along. Weights without a gradient, frozen or unused, count in the norms
    and are left alone.

    Parameters
    ----------
    graph : the analysed model. Once the model is pruned, analyse it again and make a new regularizer.
    kind : ``"group"`` (`ByGroup`), ``"layer"`` (`ByLayer`), ``"bn_scale"`` (`OnScales`) or ``"growing"``
        (`Growing`); or an object of the form of `Kind`.
    strength : of the penalty, as for weight decay.
    strengths : other strengths by group name, kind or module pattern; the last that fits wins.
    skip, only : group names, kinds or module patterns to leave alone, or to press alone.
    options : of the kind: ``alpha``; ``ratio``, ``every`` and ``ceiling`` of ``"growing"``.

    Raises
    ------
    PlanError
        For an unknown kind or option, a pattern that fits nothing, a model without anything to press.
    """

    def __init__(
        self,
        graph: Groups,
        kind: str | Kind = "group",
        strength: float = 1e-4,
        *,
        strengths: Mapping[str, float] | None = None,
        skip: Sequence[str] = (),
        only: Sequence[str] = (),
        **options: Any,
    ):
        self.kind = _kind_of(kind, options)
        self.strength = strength
        strength_of = _Strength(graph, strength, strengths or {})
        tensors = Tensors(graph)
        units = units_of(graph, skip, only)
        groups = [group for unit in units for group in unit.groups]
        parts = [part for group in groups for part in self.kind.parts(tensors, group) if part[1]]
        if not parts:
            raise PlanError(
                f"there is nothing for {self.kind} to press: no group that may be pruned has such weights; "
                "`graph.groups` lists the groups"
            )
        self._slots = NumberedSlots(tensors, parts)
        self._strengths = torch.tensor([strength_of(group) for group, _ in parts], device="cpu")[
            self._slots.part
        ]
        self._owners = {name: _owner(graph.model, name) for name in self._slots.axes}
        self._shapes = {name: tensors[name].shape for name in self._slots.axes}
        self.groups = list(dict.fromkeys(group.name for group, _ in parts))

    @torch.no_grad()
    def step(self) -> None:
        """Add the penalty's gradient to the weights' gradients.

        Raises `PlanError` if the model was pruned since it was analysed, or for sparse gradients.
        """
        before = dict(self.kind.state_dict())
        try:
            gradients, directions, factors = self._penalty()
            if gradients:  # all at once, so that no interrupt leaves some of them without
                torch._foreach_addcmul_(gradients, directions, factors)
        except BaseException:
            self.kind.load_state_dict(before)
            raise

    def _penalty(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """The weights' gradients, and what is to be added to each: the product of direction and factors."""
        weights = {name: self._weight(name) for name in self._slots.axes}
        strengths = self._strengths.to(next(iter(weights.values())).device)
        factors = self.kind.factors(self._slots, lambda: self._slots.norms(weights), strengths)
        found: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        for name, factor in self._slots.spread(factors, weights):
            weight = weights[name]
            if weight.grad is None:
                continue
            if weight.grad.is_sparse:
                raise PlanError(f"the gradient of {name} is sparse: make it dense, or skip its groups")
            for many, one in zip(found, (weight.grad, self.kind.direction(weight), factor)):
                many.append(one)
        return found

    def _weight(self, name: str) -> Tensor:
        owner, own = self._owners[name]
        weight = owner._parameters.get(own)
        if weight is None or weight.shape != self._shapes[name]:
            found = "is gone" if weight is None else f"has the shape {tuple(weight.shape)}"
            raise PlanError(
                f"{name} had the shape {tuple(self._shapes[name])} when the model was analysed and now "
                f"{found}: analyse the pruned model again and make a new Regularizer"
            )
        return weight

    def state_dict(self) -> dict[str, Any]:
        """What changes from step to step: nothing but for ``"growing"``."""
        return self.kind.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the `state_dict` of a regularizer of the same model, kind and options.

        Raises `PlanError` for anything else; then all is as it was.
        """
        if not isinstance(state, Mapping):
            raise PlanError("this is not the state of a regularizer")
        tensors = (one for one in state.values() if isinstance(one, Tensor))
        if any(one.shape != (self._slots.count,) for one in tensors):
            raise PlanError("this is the state of a regularizer of another model, or of other groups")
        self.kind.load_state_dict(state)

    def __str__(self) -> str:
        return (
            f"{self.kind}, strength {self.strength:g}, on {self._slots.count} slots of {len(self.groups)} "
            f"groups in {len(self._slots.axes)} weights"
        )


class _Strength:
    """The strength for a group: one for all, but where a pattern says otherwise."""

    def __init__(self, graph: Groups, strength: float, strengths: Mapping[str, float]):
        for given in (strength, *strengths.values()):
            if isinstance(given, bool) or not isinstance(given, (int, float)) or not given >= 0:
                raise PlanError(f"a strength is a number from 0 up, not {given!r}")
        for pattern in strengths:
            check_pattern(graph, pattern, "strengths")
        self._strength = strength
        self._strengths = list(strengths.items())[::-1]

    def __call__(self, group: Group) -> float:
        fitting = (strength for pattern, strength in self._strengths if matches(group, pattern))
        return float(next(fitting, self._strength))


def _kind_of(given: str | Kind, options: Mapping[str, Any]) -> Kind:
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


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that a parameter is registered with, and its name there."""
    path, _, own = name.rpartition(".")
    return module_at(model, path), own
