"""Criteria that look at weights and gradients, and where the gradients come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...adapters.contents import copied, tensors_in
from ...adapters.undisturbed import undisturbed
from ...adapters.undo import Undo, undoing
from ...errors import PlanError
from ..calibrating import Measured
from ..grouping import Group, Member
from .own_loss import own_loss
from .slot_sums import Along, mean_one, slot_sums, sums_along, total
from .slot_tensors import Loss, Tensors


def taylor(group: Group, tensors: Tensors) -> Tensor:
    """First-order Taylor expansion (Molchanov et al., CVPR 2019): how the loss changes without a slot.

    ``score[i] = sum(mean(|sum(w * g for the entries w of slot i)|))``, the mean over batches, the outer sum
    over the weights of the group, divided by its mean over the group. `gradients` says where ``g`` is from.
    """
    found = tensors.once("taylor", lambda: _sums_of_products(tensors, Tensor.float))
    sums = (slot_sums(group, tensors, member, _along(found)) for member in _known(group, tensors, found))
    return mean_one(total(group, (one.abs().mean(0) for one in sums)))


def fisher(group: Group, tensors: Tensors) -> Tensor:
    """Optimal brain damage (LeCun et al., NeurIPS 1989) with the Fisher information as Hessian diagonal.

    ``score[i] = sum(w ** 2 * mean(g ** 2) for all weights w of slot i)``, the mean over batches, divided by
    its mean over the group. One batch is one sample of the estimate: batches of one example are the most
    exact. `gradients` says where ``g`` is from.
    """
    found = tensors.once("fisher", lambda: _sums_of_products(tensors, Tensor.square))
    sums = (slot_sums(group, tensors, member, _along(found)) for member in _known(group, tensors, found))
    return mean_one(total(group, (one.mean(0) for one in sums)))


def gradients(tensors: Tensors) -> Iterator[dict[str, Tensor]]:
    """The gradients of the model's weights by name, batch by batch.

    They are those of ``tensors.loss``, or else of the model's `own_loss`, for each batch of ``tensors.data``
    if there are both, with the model in eval mode and left as it was; otherwise what an earlier ``backward``
    left in the parameters, as one batch.

    Raises
    ------
    PlanError
        There is neither, or the loss cannot be used.
    """
    weights: dict[str, Tensor] = {
        name: tensor
        for name in tensors.graph.trace.tensors
        for tensor in [tensors[name]]
        if isinstance(tensor, nn.Parameter) and tensor.is_floating_point()
    }
    if any(weight.is_meta for weight in weights.values()):
        return iter([weights])  # nothing can be run; `choose` refuses scores on the meta device
    if any(weight.is_inference() for weight in weights.values()):
        raise PlanError(
            "weights made in torch.inference_mode() can have no gradients: make the model outside of it"
        )
    loss = loss_of(tensors)
    if tensors.data is not None and loss is not None:
        return _computed(tensors, loss, weights)
    found = {name: weight.grad for name, weight in weights.items() if weight.grad is not None}
    if not found:
        if isinstance(tensors.inputs, Measured):
            raise PlanError("this criterion needs gradients: data= is to be batches, nothing measured")
        raise PlanError(
            "this criterion needs gradients: give data= and loss=, where loss(model, batch) is a scalar, "
            "or call backward() before"
        )
    return iter([found])


def loss_of(tensors: Tensors) -> Loss | None:
    """The loss that was given, or that the model has of its own."""
    return tensors.loss or own_loss(tensors.graph.model, tensors.tokenizer)


def _computed(tensors: Tensors, loss: Loss, weights: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    for number, batch in enumerate(tensors.data or ()):
        found = pass_backward(tensors.graph.model, loss, number, batch, list(weights.values()))
        yield {
            name: torch.zeros_like(weight) if gradient is None else gradient
            for (name, weight), gradient in zip(weights.items(), found)
        }


def pass_backward(
    model: nn.Module,
    loss: Loss,
    number: int,
    batch: object,
    weights: list[Tensor],
    watch: Callable[[Undo], None] = lambda undo: None,
) -> Sequence[Tensor | None]:
    """The gradients of the loss on batch `number`, with `model` in eval mode and left as it was.

    What `watch` does to the model before, it notes to be put back. Raises `PlanError` if the loss cannot be
    used.
    """
    with undisturbed(model), _differentiable(weights), torch.enable_grad(), undoing() as undo:
        watch(undo)
        computed = partial(_loss_of, loss, model, number, _differentiated(batch))
        return _gradients_of(computed, f"{_name(loss)} failed on batch {number}", weights)


def _differentiated(batch: object) -> object:
    """A batch through which gradients can pass: none passes through what was made in inference mode."""
    made_there = any(tensor.is_inference() for tensor in tensors_in(batch))
    return copied(batch, Tensor.clone) if made_there else batch


def _gradients_of(loss: Callable[[], Tensor], failed: str, weights: list[Tensor]) -> Sequence[Tensor | None]:
    failure: RuntimeError | None = None
    # cuDNN differentiates recurrent layers in training mode only, torch's own kernels in both.
    for kernels in nullcontext, _without_cudnn:
        with kernels():
            found = loss()
            try:
                return torch.autograd.grad(found, weights, allow_unused=True)
            except RuntimeError as error:
                failure = error
    raise PlanError(f"the gradients of {failed}: {failure}") from failure


@contextmanager
def _without_cudnn() -> Iterator[None]:
    cudnn: Any = torch.backends.cudnn
    with undoing() as undo:
        undo.add(setattr, cudnn, "enabled", cudnn.enabled)
        cudnn.enabled = False
        yield


def _loss_of(given: Loss, model: nn.Module, number: int, batch: object) -> Tensor:
    """The loss of one batch, if it can be differentiated."""
    try:
        loss = given(model, batch)
    except PlanError:
        raise
    except Exception as error:
        raise PlanError(
            f"{_name(given)} failed on batch {number}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        raise PlanError(f"{_name(given)} must be one number that depends on the weights, not {_told(loss)}")
    if not loss.isfinite():
        raise PlanError(f"{_name(given)} is {loss.item()} on batch {number}: it has no gradients")
    return loss


def _name(loss: Loss) -> str:
    return getattr(loss, "named", "loss(model, batch)")


def _told(loss: object) -> str:
    if not isinstance(loss, Tensor):
        return f"{type(loss).__name__} {loss!r}"
    return f"a tensor of shape {tuple(loss.shape)}" + ("" if loss.requires_grad else " without a gradient")


@contextmanager
def _differentiable(weights: Iterable[Tensor]) -> Iterator[None]:
    """Frozen weights have an importance too."""
    frozen = [weight for weight in weights if not weight.requires_grad]
    with undoing() as undo:
        for weight in frozen:
            undo.add(weight.requires_grad_, False)
            weight.requires_grad_(True)
        yield


def _sums_of_products(tensors: Tensors, of: Callable[[Tensor], Tensor]) -> dict[str, list[Tensor]]:
    """``of(weight * gradient)`` summed along every axis of every weight: ``(batches, extent)`` each."""
    found: dict[str, list[list[Tensor]]] = {}
    for batch in gradients(tensors):
        for name, gradient in batch.items():
            product = tensors[name].detach().float() * gradient.detach().to_dense().float()
            found.setdefault(name, []).append(sums_along(of(product)))
    return {name: [torch.stack(axis) for axis in zip(*batches)] for name, batches in found.items()}


def _along(found: dict[str, list[Tensor]]) -> Along:
    return lambda name, axis: found[name][axis]


def _known(group: Group, tensors: Tensors, along: dict[str, list[Tensor]]) -> list[Member]:
    """The group's weights that have a gradient."""
    weights = tensors.weights(group)
    known = [member for member in weights if member.tensor in along]
    if weights and not known:
        raise PlanError(
            f"no weight of {group.name} has a gradient; give data= and loss=, or leave it out with skip="
        )
    return known
