"""Whether what is loaded from a folder is the model that was saved there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import raise_foreign
from ..contents import outputs_in
from ..inputs import guess_inputs
from ..submodules import tensors_of
from ..tensors import named_tensors
from ..undisturbed import undisturbed
from ..undo import undoing
from .solve import lasting_tensors

_ROUNDINGS = 16  # how many of the last steps of the largest number a result may differ by
# What a model gives for the inputs that it was pruned with.
Run = Callable[[nn.Module], Sequence[Tensor]]


def difference(part: Path, model: Any, run: Run, computed: Iterable[str] = ()) -> str:
    """What the loaded model has or does otherwise; nothing if it is the same, bit for bit.

    `computed` are the names of tensors that are not saved, and must be the same as well.
    """
    try:
        with quiet():
            loaded = type(model).from_pretrained(
                part, dtype="auto", attn_implementation=getattr(model.config, "_attn_implementation", None)
            )
        ours, theirs = named_tensors(model), named_tensors(loaded)
        tensors, others = lasting_tensors(model), lasting_tensors(loaded)
        tensors |= {name: ours[name] for name in computed}
        others |= {name: theirs[name] for name in computed if name in theirs}
        for name, tensor in tensors.items():
            other = others.get(name)
            if other is None or other.shape != tensor.shape or other.dtype != tensor.dtype:
                return f"{name} is another"
            if not torch.equal(tensor.detach().cpu(), other.detach().cpu()):
                return f"{name} has other values"
        device = next(iter(tensors.values())).device
        for tensor in tensors_of(loaded):  # those of a file may lie askew for the kernels that are used else
            tensor.data = tensor.data.to(device, copy=True)
        results, others_results = run(model), run(loaded)
    except Exception as error:  # whatever transformers says of sizes that it does not expect
        raise_foreign(error)
        return f"it cannot be loaded: {first_line(error)}"
    same = len(results) == len(others_results) and all(map(_equal, results, others_results))
    return "" if same else "its outputs are others"


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether two results are the same but for how their sums were rounded."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.dtype.is_floating_point or not one.numel():
        return torch.equal(one, other)
    one, other = one.nan_to_num(), other.nan_to_num()
    near = _ROUNDINGS * torch.finfo(one.dtype).eps * one.abs().max()
    return bool((one - other).abs().max() <= near)


def guessed(model: nn.Module) -> Run:
    args, kwargs, _ = guess_inputs(model)
    return lambda one: outputs_of(one, args, kwargs)


def outputs_of(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """The tensors that a model gives, in eval mode; nothing of it is changed."""
    with undisturbed(model):
        return outputs_in(model(*args, **kwargs))


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bars and the warnings of transformers: what is wrong is found by looking."""
    from transformers.utils import logging  # whoever saves its models has it

    with undoing() as undo:
        undo.add(logging.set_verbosity, logging.get_verbosity())
        if logging.is_progress_bar_enabled():
            undo.add(logging.enable_progress_bar)
        logging.set_verbosity(logging.CRITICAL)
        logging.disable_progress_bar()
        yield


def last_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
