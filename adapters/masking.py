"""Sets dropped slots to zero instead of slicing them off, and takes that back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import PlanError
from .memories import forget_values
from .modules import Emptied
from .tensors import check_fits, named_tensors

if TYPE_CHECKING:
    from ..engine.plan import Plan


@contextmanager
def mask(model: nn.Module, plan: Plan, *, nothing: float = 0.0) -> Iterator[nn.Module]:
    """A context in which the slots that `plan` drops are zero, to look at `model` before deciding.

    They are zero in every parameter and buffer that holds them (whole numbers stay as they are); shapes
    and attributes do not change. On leaving, also by an exception, the dropped slots are put back bit for
    bit; what else was changed inside stays changed. Only the dropped values are kept meanwhile.

    Where all groups of the plan are exact, the masked model computes what the pruned one will. Where one is
    not (`Group.exact`: a layer norm takes its statistic over the slots), it is only near to it.

    Parameters
    ----------
    nothing : what stands for zero. A weight norm of which a whole filter is dropped divides zero by zero;
        ``nothing=1e-12`` serves there.

    Raises
    ------
    PlanError
        On entering, if the plan was made for another model, which is then untouched; on leaving, if the
        model was pruned inside.

    Examples
    --------
    >>> plan = engine.prune(model, ratio=0.5, dry_run=True).plan
    >>> with engine.mask(model, plan):
    ...     print(accuracy(model))
    """
    tensors = named_tensors(model)
    check_fits(tensors, plan.sliced, plan.shapes)
    with ExitStack() as stack:
        for name in plan.made:
            stack.enter_context(_emptied(model, name))
        for name, kept in plan.sliced.items():
            if tensors[name].is_floating_point() or tensors[name].is_complex():
                for axis, slots in kept.items():
                    stack.enter_context(_filled(name, tensors[name], axis, slots, nothing))
        yield model


@contextmanager
def _emptied(model: nn.Module, name: str) -> Iterator[None]:
    """What the forward makes of masked tensors it makes again, here and afterwards."""
    made = Emptied(model, name)
    made.carry_out()
    try:
        yield
    finally:
        made.take_back()


@contextmanager
def _filled(name: str, tensor: Tensor, axis: int, kept: Sequence[int], nothing: float) -> Iterator[None]:
    """`nothing` in all but these slots of one axis; where another axis has it already, that comes back."""
    shape = tensor.shape
    dropped = _dropped(kept, shape[axis], tensor.device)
    with _writing(tensor):
        values = tensor.index_select(axis, dropped)
        tensor.index_fill_(axis, dropped, nothing)
    try:
        yield
    finally:
        if tensor.shape != shape:
            raise PlanError(f"{name} was resized inside engine.mask: leave the block before pruning")
        with _writing(tensor):
            tensor.index_copy_(axis, dropped, values)


def _dropped(kept: Sequence[int], size: int, device: torch.device) -> Tensor:
    drops = torch.ones(size, dtype=torch.bool, device="cpu")
    drops[torch.as_tensor(kept, device="cpu")] = False
    return drops.nonzero().flatten().to(device)


@contextmanager
def _writing(tensor: Tensor) -> Iterator[None]:
    """Autograd is told of the change, so that a backward of what was computed before it fails."""
    with torch.inference_mode(tensor.is_inference()), torch.no_grad():
        yield
    forget_values()
