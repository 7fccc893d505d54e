"""Sparse training: gradients that press the slots of groups towards zero, so that pruning them costs less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...adapters.modes import without_gradients
from ...adapters.submodules import module_at
from ...errors import PlanError
from ...torch_private import add_products
from ..choosing import ByPattern, Options, bundles_of
from ..grouping import Group, Groups
from ..scoring import Tensors
from .penalties import Kind, kind_of
from .slot_numbers import NumberedSlots


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
        self.kind = kind_of(kind, options)
        self.strength = strength
        strength_of = _Strength(graph, strength, strengths or {})
        tensors = Tensors(graph)
        bundles = bundles_of(graph, Options(skip=skip, only=only))
        groups = [group for bundle in bundles for group in bundle.groups]
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

    def step(self) -> None:
        """Add the penalty's gradient to the weights' gradients.

        Raises `PlanError` if the model was pruned since it was analysed, or for sparse gradients.
        """
        without_gradients(self._step)

    def _step(self) -> None:
        before = dict(self.kind.state_dict())
        gradients: list[Tensor] = []
        versions: list[int] = []
        try:
            gradients, directions, factors = self._penalty()
            versions = _versions(gradients[:1])
            if gradients:  # all at once, so that no interrupt leaves some of them without
                add_products(gradients, directions, factors)
        except BaseException:
            if not versions or _versions(gradients[:1]) == versions:  # else it struck when all was done
                self.kind.load_state_dict(before)
            raise

    def _penalty(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """The weights' gradients, and what is to be added to each: the product of direction and factors."""
        weights = {name: self._weight(name) for name in self._slots.axes}
        strengths = self._strengths.to(next(iter(weights.values())).device)
        factors = self.kind.factors(self._slots, lambda: self._slots.norms(weights), strengths)
        found: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        for name, factor in self._slots.per_entry(factors, weights):
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
        self._strength = strength
        self._strengths = ByPattern(graph, strengths, "strengths")

    def __call__(self, group: Group) -> float:
        own = self._strengths.of(group)
        return float(self._strength if own is None else own)


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that a parameter is registered with, and its name there."""
    path, _, own = name.rpartition(".")
    return module_at(model, path), own


def _versions(tensors: list[Tensor]) -> list[int]:
    """How often each was written; of those made in inference mode nobody knows."""
    return [one._version for one in tensors if not one.is_inference()]
