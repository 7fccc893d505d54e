"""The oracle: a pruned model must compute what the original does with its dropped slots zeroed."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import torch
from attrs import frozen
from prunus import engine
from torch import Tensor, nn


@frozen
class Measured:
    """What one check found, both relative to the largest output.

    ``error`` is how far the pruned model is from the masked original, ``effect`` how far the masked
    original is from the original: an effect of nothing would mean that the check tests nothing.
    """

    error: float
    effect: float


def check(model: nn.Module, inputs, plan, tolerance: float = 1e-4) -> Measured:
    """Carry ``plan`` out on a randomised copy of ``model`` and compare it with a masked one.

    ``model`` itself is not changed. Raises ``AssertionError`` where the two differ by more than
    ``tolerance``, where an output has changed its shape, or where the plan has no effect at all.
    """
    run(model, inputs)  # weight norm recomputes its weights here, without which they cannot be copied
    original = copy.deepcopy(model)
    randomise(original, inputs)
    whole = run(original, inputs)
    masked = run_masked(original, inputs, plan)
    engine.apply(original, plan)
    pruned = run(original, inputs)
    # The masked one's are the original's, but for sizes that the data tell.
    shapes = [tuple(output.shape) for output in masked]
    assert [tuple(output.shape) for output in pruned] == shapes, "the pruned model's outputs changed shape"
    found = Measured(error=distance(pruned, masked), effect=distance(whole, masked))
    assert found.effect > 1e-4, f"the plan has no effect ({found.effect:.1e}): this check tests nothing"
    assert found.error <= tolerance, f"pruned and masked differ by {found.error:.1e}"
    return found


def run(model: nn.Module, inputs) -> list[Tensor]:
    """The floating outputs of one forward in eval mode, flattened."""
    args, kwargs = arguments(inputs)
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            return [output for output in leaves(model(*args, **kwargs)) if output.is_floating_point()]
    finally:
        for module, flag in training.items():
            module.training = flag


def arguments(inputs) -> tuple[tuple, dict]:
    """Example inputs as the library takes them (tensor, tuple, dict or pair), as ``(args, kwargs)``."""
    if isinstance(inputs, Tensor):
        return (inputs,), {}
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if len(inputs) == 2 and isinstance(inputs[0], tuple) and isinstance(inputs[1], Mapping):
        return inputs
    return tuple(inputs), {}


def leaves(value) -> Iterator[Tensor]:
    """The tensors in a model's output, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from leaves(item)


def distance(outputs: list[Tensor], reference: list[Tensor]) -> float:
    """The largest difference, relative to the largest value; nan, inf and other shapes are far."""
    worst = 0.0
    for output, wanted in zip(outputs, reference, strict=True):
        if output.shape != wanted.shape:
            return float("inf")
        scale = wanted.abs().max().double().clamp(min=1e-12)
        gap = ((output.double() - wanted.double()).abs().max() / scale).item()
        worst = max(worst, gap if gap == gap else float("inf"))
    return worst


def run_masked(model: nn.Module, inputs, plan) -> list[Tensor]:
    """The outputs of a copy whose dropped slots are zero.

    Weight norm divides by the norm of a filter: where zeros make that 0 / 0, next to nothing serves.
    """
    for nothing in (0.0, 1e-12):
        masked = copy.deepcopy(model)
        mask(masked, plan, nothing)
        outputs = run(masked, inputs)
        if all(output.isfinite().all() for output in outputs):
            return outputs
    raise AssertionError("the masked original's outputs are not finite")


def mask(model: nn.Module, plan, nothing: float = 0.0) -> None:
    """Set all slots that ``plan`` drops to ``nothing``, in every tensor that holds them."""
    for name, axes in plan.tensors.items():
        tensor = named_tensor(model, name)
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        for axis, kept in axes.items():
            dropped = torch.ones(tensor.shape[axis], dtype=torch.bool, device=tensor.device)
            dropped[torch.as_tensor(kept, dtype=torch.long, device=tensor.device)] = False
            tensor.data.index_fill_(axis, dropped.nonzero().flatten(), nothing)


def named_tensor(model: nn.Module, name: str) -> Tensor:
    """The parameter, buffer or tensor attribute at a dotted path."""
    value = model
    for part in name.split("."):
        value = getattr(value, part)
    return value


# --- a model that hides nothing --------------------------------------------------------------------------


def randomise(model: nn.Module, inputs, seed: int = 0) -> None:
    """Give the model values under which a wrong slot shows at its outputs.

    A fresh model hides mistakes: scales of one and shifts of zero are the same in every order, zero
    layers pass nothing on, and small weights let the signal die out on the way.
    """
    fresh = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    for spread in (0.1, 0.03, 0.01):
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            if parameter.is_floating_point() and parameter.numel():
                scatter_constant(parameter.data, spread, generator)
                amplify(parameter.data)
        calibrate(model, inputs, generator)
        if all(output.isfinite().all() for output in run(model, inputs)):
            return
        model.load_state_dict(fresh)
    raise AssertionError("the model's outputs are not finite, however small its random parameters")


def scatter_constant(tensor: Tensor, spread: float, generator: torch.Generator) -> None:
    """Spread the values of a tensor that is the same everywhere (norms, layer scales, zero layers)."""
    if bool((tensor == tensor.flatten()[0]).all()):
        tensor.add_((spread * torch.randn(tensor.shape, generator=generator, device="cpu")).to(tensor))


def amplify(tensor: Tensor) -> None:
    """Scale a weight matrix up to a gain of one; larger gains stay."""
    if tensor.ndim >= 2 and tensor.numel() > tensor.shape[0]:
        gain = (tensor.float().std() * (tensor.numel() / tensor.shape[0]) ** 0.5).item()
        if 0 < gain < 1:
            tensor.div_(gain)


def calibrate(model: nn.Module, inputs, generator: torch.Generator) -> None:
    """Set running statistics near those of one forward, each channel off by an amount of its own."""

    def measure(module, args):
        size = module.running_mean.numel()
        offset = 0.1 * torch.randn(size, generator=generator, device="cpu").to(module.running_mean)
        factor = 0.5 + torch.rand(size, generator=generator, device="cpu").to(module.running_mean)
        mean, variance = torch.zeros_like(factor), torch.ones_like(factor)
        if args and isinstance(args[0], Tensor) and args[0].ndim >= 2 and args[0].shape[1] == size:
            channels = args[0].detach().float().transpose(0, 1).flatten(1)
            mean, variance = channels.mean(1), channels.var(1, correction=0)
            variance = torch.where(variance > 1e-3, variance, torch.ones_like(variance))
        module.running_mean.data.copy_(mean + offset * variance.sqrt())
        module.running_var.data.copy_(variance * factor)

    normalised = [m for m in model.modules() if isinstance(getattr(m, "running_mean", None), Tensor)]
    hooks = [module.register_forward_pre_hook(measure) for module in normalised]
    try:
        run(model, inputs)
    finally:
        for hook in hooks:
            hook.remove()
