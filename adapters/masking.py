"""Sets dropped slots to zero instead of slicing them off, and takes that back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PlanError
from .computed import Computed, computed
from .modes import without_gradients
from .modules import Emptied
from .overlaps import overlapping
from .plan import Plan, expect_plan
from .tensors import bits, check_fits, named_tensors
from .torch_caches import forget_values
from .undo import undoing
from .wrappers import check_sliceable


@contextmanager
def mask(model: nn.Module, plan: Plan, *, nothing: float = 0.0) -> Iterator[nn.Module]:
    """A context in which the slots that `plan` drops are zero, to look at `model` before deciding.

    They are zero in every parameter and buffer that holds them (whole numbers stay as they are); shapes
    and attributes do not change. On leaving, also by an exception, the dropped slots are put back bit for
    bit; what else was changed inside stays changed. Only the dropped values are kept meanwhile. A tensor
    whose memory has other numbers, too (an expanded one, two in the same place), is a copy meanwhile, which
    is gone afterwards. Of what torch computes a weight from (weight norm) it is enough that one is zero.
    A model that is moved or converted inside (``model.cuda()``, ``model.half()``) gets its values back there.

    Where all groups of the plan are exact, the masked model computes what the pruned one will. Where one is
    not (`Group.exact`: a layer norm takes its statistic over the slots), it is only near to it.

    Parameters
    ----------
    nothing : what stands for zero. A weight norm that is written out in a forward divides zero by zero
        where a whole filter is dropped; ``nothing=1e-12`` serves there.

    Raises
    ------
    PlanError
        On entering, if the plan was made for another model, which is then untouched; on leaving, if the
        model was pruned inside.

    Examples
    --------
    >>> from prunus import engine
    >>> model, x = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), torch.randn(2, 8)
    >>> plan = engine.prune(model, example_inputs=x, ratio=0.5, dry_run=True).plan
    >>> with engine.mask(model, plan):
    ...     int(model[0].bias.count_nonzero())
    8
    """
    expect_plan(plan)
    if not isinstance(nothing, (int, float)):
        raise PlanError(f"nothing= is the number that stands for zero, not {nothing!r}")
    check_sliceable(model)
    tensors = named_tensors(model)
    check_fits(tensors, plan.sliced, plan.shapes)
    apart = overlapping(tensors.values())
    with undoing() as undo:
        undo.do(_Converted(model, tensors, plan))  # what is noted first is put back last
        for name in plan.made:
            undo.do(Emptied(model, name))
        fills: dict[str, list[Any]] = {}
        for name, axes in plan.sliced.items():
            tensor = tensors[name]
            if not (tensor.is_floating_point() or tensor.is_complex()):
                continue
            if id(tensor) in apart:
                fills[name] = [_Copied(name, tensor, axes, nothing)]
            else:
                fills[name] = [_Filled(name, tensor, axis, kept, nothing) for axis, kept in axes.items()]
            for fill in fills[name]:
                undo.do(fill)
        for weight in computed(model, fills):
            _keep_finite(weight, fills)
        yield model


class _Filled:
    """`nothing` in all but these slots of one axis; where another axis has it already, that comes back."""

    def __init__(self, name: str, tensor: Tensor, axis: int, kept: Sequence[int], nothing: float):
        self.name, self._tensor, self._axis, self._shape = name, tensor, axis, tensor.shape
        self._dtype = tensor.dtype
        self._dropped = _dropped(kept, tensor.shape[axis], tensor.device)
        self._values: Tensor | None = None
        self._nothing = nothing

    def carry_out(self) -> None:
        """Write, once what is there is remembered."""
        if self._values is None:
            self._values = bits(self._tensor).index_select(self._axis, self._dropped)
        number = _number(self._nothing, self._tensor)
        _write(self._tensor, lambda: bits(self._tensor).index_fill_(self._axis, self._dropped, number))

    def take_back(self) -> None:
        """Write what was there."""
        if self._values is not None:
            _check_whole(self.name, self._tensor, self._shape)
            values, dropped = self._values, self._dropped.to(self._tensor.device)
            if (self._tensor.dtype, self._tensor.device) != (self._dtype, values.device):
                values = bits(values.view(self._dtype).to(self._tensor))
            _write(self._tensor, partial(_copy, self._tensor, self._axis, dropped, values))


class _Copied:
    """The same in a copy that stands for the tensor meanwhile, as its memory has other numbers, too."""

    def __init__(self, name: str, tensor: Tensor, axes: Mapping[int, Sequence[int]], nothing: float):
        self.name, self._tensor, self._axes = name, tensor, axes
        self._before, self._nothing = tensor.data, nothing

    def carry_out(self) -> None:
        """Put a copy in the place of the data."""
        copy = self._before.clone()
        for axis, kept in self._axes.items():
            dropped = _dropped(kept, copy.shape[axis], copy.device)
            bits(copy).index_fill_(axis, dropped, _number(self._nothing, copy))
        self._put(copy)

    def take_back(self) -> None:
        """Put the data back."""
        _check_whole(self.name, self._tensor, self._before.shape)
        self._put(self._before.to(self._tensor))

    def _put(self, data: Tensor) -> None:
        def put() -> None:
            self._tensor.data = data
            if not self._tensor.is_inference():
                torch.autograd.graph.increment_version(self._tensor)

        _write(self._tensor, put)


class _Converted:
    """Tensors in whose place a conversion puts others, as it does with buffers: these get the values, too."""

    def __init__(self, model: nn.Module, tensors: Mapping[str, Tensor], plan: Plan):
        self._model, self._tensors, self._plan = model, tensors, plan

    def carry_out(self) -> None:
        """There is nothing to do on entering."""

    def take_back(self) -> None:
        """Copy the dropped slots to tensors of the same names that are of another dtype or device now."""
        now = named_tensors(self._model)
        for name, axes in self._plan.sliced.items():
            tensor, before = now.get(name), self._tensors[name]
            if tensor is None or (tensor.dtype, tensor.device) == (before.dtype, before.device):
                continue
            _check_whole(name, tensor, before.shape)
            for axis, kept in axes.items():
                dropped = _dropped(kept, before.shape[axis], before.device)
                values = bits(before).index_select(axis, dropped).view(before.dtype).to(tensor)
                _write(tensor, partial(_copy, tensor, axis, dropped.to(tensor.device), values))


def _keep_finite(weight: Computed, fills: Mapping[str, list[Any]]) -> None:
    """Put slots back of which it is enough that others are zero: of a direction that is scaled by zero.

    A weight norm divides a filter by its norm, which are both zero then. What is finite already stays.
    """
    value = weight.now()
    finite = value.isfinite()
    for fill in [] if finite.all() else [fill for name in weight.originals for fill in fills[name]]:
        fill.take_back()
        now = weight.now()
        if now.isfinite().all() and torch.equal(now[finite], value[finite]):
            return
        fill.carry_out()


def _check_whole(name: str, tensor: Tensor, shape: torch.Size) -> None:
    if tensor.shape != shape:
        raise PlanError(f"{name} was resized inside engine.mask: leave the block before pruning")


def _number(nothing: float, like: Tensor) -> int | float:
    """`nothing` as it is written into `bits` of a tensor."""
    one = torch.tensor(nothing, device="cpu").to(like.dtype)
    return bits(one).item()


def _dropped(kept: Sequence[int], size: int, device: torch.device) -> Tensor:
    drops = torch.ones(size, dtype=torch.bool, device="cpu")
    drops[torch.as_tensor(kept, device="cpu")] = False
    return drops.nonzero().flatten().to(device)


def _copy(tensor: Tensor, axis: int, slots: Tensor, values: Tensor) -> None:
    bits(tensor).index_copy_(axis, slots, bits(values))


def _write(tensor: Tensor, action: Callable[[], Any]) -> None:
    """Autograd is told of the change, so that a backward of what was computed before it fails."""
    with torch.inference_mode(tensor.is_inference()):
        without_gradients(action)
    forget_values()
