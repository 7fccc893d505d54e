"""Losses and random choices of `torch.nn.functional`, written as the simple calls they stand for.

A loss is recorded as a loss of every element, which has a rule, and a sum or mean over these. ``LOSSES`` is
of the same kind as the rewrites of `rewrites`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..torch_private import reduction_of_old

Mean = Callable[[Tensor, dict[str, Any]], Tensor]


def _loss(original: Callable, mean: Mean = lambda found, _: found.mean()) -> Callable:
    """The loss of every element, reduced afterwards as the call asks for."""

    def call(*args: Any, **named: Any) -> Tensor:
        given = dict(zip(_parameters(original), args)) | named
        old = given.pop("size_average", None), given.pop("reduce", None)
        reduction = given.pop("reduction", "mean")
        if old != (None, None):
            reduction = reduction_of_old(*old, emit_warning=False)
        found = original(**given, reduction="none")
        if reduction == "batchmean":
            return found.sum() / found.size(0)
        if reduction == "mean":
            return mean(found, given)
        return _reduced(found, reduction)

    return call


def _reduced(found: Tensor, reduction: str) -> Tensor:
    return {"mean": found.mean, "sum": found.sum}.get(reduction, lambda: found)()


def _parameters(function: Callable) -> Sequence[str]:
    code = getattr(function, "__wrapped__", function).__code__
    return code.co_varnames[: code.co_argcount]


def _mean_of_classes(found: Tensor, given: dict[str, Any]) -> Tensor:
    """Each element counts as much as its class does, and those that are to be ignored do not count."""
    target, weight = given["target"], given.get("weight")
    counted = target != given.get("ignore_index", -100)
    if weight is None:
        return found.sum() / counted.sum()
    return found.sum() / (weight[target.clamp(min=0)] * counted).sum()


def _mean_of_texts(found: Tensor, given: dict[str, Any]) -> Tensor:
    """The loss of a text is one of each of its letters."""
    lengths = torch.as_tensor(given["target_lengths"], device=found.device)
    return (found / lengths.clamp(min=1)).mean()


def _cross_entropy(input: Tensor, target: Tensor, *args: Any, **named: Any) -> Tensor:
    """Targets that are probabilities of classes: a product with the logarithms of others."""
    given = dict(zip(_parameters(F.cross_entropy), (input, target, *args))) | named
    reduction, smoothing = given.get("reduction", "mean"), given.get("label_smoothing", 0.0)
    known = {"input", "target", "reduction", "label_smoothing"}
    if not target.is_floating_point() or any(given[name] is not None for name in given.keys() - known):
        return _loss(F.cross_entropy, _mean_of_classes)(**given)
    dim = 0 if input.dim() == 1 else 1
    if smoothing:
        target = target * (1 - smoothing) + smoothing / input.size(dim)
    found = -(F.log_softmax(input, dim) * target).sum(dim)
    return _reduced(found, reduction)


def _triplet_with_distance(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    distance = distance_function or F.pairwise_distance
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = torch.minimum(far, distance(positive, negative))
    found = torch.clamp_min(margin + near - far, 0)
    return _reduced(found, reduction)


def _pairwise_distance(*args: Any, **named: Any) -> Tensor:
    """Without the axis of size 1 that ``keepdim`` leaves."""
    given = dict(zip(("x1", "x2", "p", "eps", "keepdim"), args)) | named
    keepdim = given.pop("keepdim", False)
    found = F.pairwise_distance(**given)
    return found.unsqueeze(-1) if keepdim else found


def _gumbel_softmax(
    logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    noise = -torch.empty_like(logits).exponential_().log()
    soft = ((logits + noise) / tau).softmax(dim)
    if not hard:
        return soft
    index = soft.max(dim, keepdim=True)[1]
    return torch.zeros_like(logits).scatter_(dim, index, 1.0) - soft.detach() + soft


_PLAIN = (
    *(F.mse_loss, F.l1_loss, F.smooth_l1_loss, F.huber_loss, F.binary_cross_entropy),
    *(F.binary_cross_entropy_with_logits, F.kl_div, F.poisson_nll_loss, F.gaussian_nll_loss),
    *(F.soft_margin_loss, F.hinge_embedding_loss, F.margin_ranking_loss),
    *(F.cosine_embedding_loss, F.triplet_margin_loss, F.multi_margin_loss),
    *(F.multilabel_margin_loss, F.multilabel_soft_margin_loss),
)

LOSSES: dict[Callable, Callable] = {
    **{loss: _loss(loss) for loss in _PLAIN},
    F.cross_entropy: _cross_entropy,
    F.nll_loss: _loss(F.nll_loss, _mean_of_classes),
    F.ctc_loss: _loss(F.ctc_loss, _mean_of_texts),
    F.triplet_margin_with_distance_loss: _triplet_with_distance,
    F.pairwise_distance: _pairwise_distance,
    F.gumbel_softmax: _gumbel_softmax,
}
