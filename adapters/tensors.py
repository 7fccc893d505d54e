"""Slices the real tensors, on their own device and in their own dtype, so that it can be taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..errors import PlanError, shown
from ..torch_private import FakeTensor, is_traceable_wrapper_subclass, users_of
from .submodules import modules_of, own_attributes, registered


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters, buffers and plain tensor attributes by dotted name; tied ones under every name."""
    found: dict[str, Tensor] = {}
    for path, module in modules_of(model):
        prefix = f"{path}." if path else ""
        kinds = registered(module, "_parameters"), registered(module, "_buffers"), own_attributes(module)
        for own in kinds:
            for name, value in own.items():
                if isinstance(value, Tensor):
                    found[prefix + name] = value
    return found


def check_fits(
    tensors: Mapping[str, Tensor], slices: Mapping[str, Mapping[int, Sequence[int]]], shapes: Mapping
) -> None:
    """Raise `PlanError` unless every tensor of a plan is there in the shape that the plan was made for."""
    slices_of: dict[int, Mapping[int, Sequence[int]]] = {}
    fitting: dict[tuple[int, int], bool] = {}  # tensors share the lists of what they keep
    for name, axes in slices.items():
        if name not in tensors:
            raise PlanError(
                f"the plan prunes {shown(name)}, which this model does not have; was it made for another?"
            )
        shape = tuple(tensors[name].shape)
        if name in shapes and tuple(shapes[name]) != shape:
            raise PlanError(f"the plan is for {name} of shape {tuple(shapes[name])}, here it has {shape}")
        for axis, kept in axes.items():
            size = shape[axis] if 0 <= axis < len(shape) else 0
            if (id(kept), size) not in fitting:
                fitting[id(kept), size] = _increasing_within(kept, size)
            if not fitting[id(kept), size]:
                raise PlanError(
                    f"the plan keeps slots of axis {axis} of {name} that shape {shape} does not have"
                )
        if slices_of.setdefault(id(tensors[name]), axes) != axes:
            raise PlanError(f"the plan prunes {name} in two ways, as it is tied; was it made for another?")


def _increasing_within(kept: Sequence[int], size: int) -> bool:
    slots = np.asarray(kept)
    return slots.size > 0 and slots[0] >= 0 and slots[-1] < size and bool((slots[1:] > slots[:-1]).all())


_SMALL = 2**14  # bytes of a tensor that is kept as a whole, as two parts of it cost more time than memory


class Indices:
    """Kept slots as torch takes them; a list that several tensors share is only turned once a device."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, torch.device], tuple[Sequence[int], slice | Tensor]] = {}

    def of(self, axes: Mapping[int, Sequence[int]], device: torch.device) -> dict[int, slice | Tensor]:
        """For every axis a slice where the kept slots are one run, else an index tensor on `device`."""
        return {axis: self._one(kept, device) for axis, kept in axes.items()}

    def _one(self, kept: Sequence[int], device: torch.device) -> slice | Tensor:
        known = self._known.get((id(kept), device))
        if known is None:
            run = kept[-1] - kept[0] + 1 == len(kept)
            index = slice(kept[0], kept[-1] + 1) if run else torch.tensor(kept, device=device)
            known = self._known[id(kept), device] = kept, index
        return known[1]


class SlicedTensor:
    """One tensor and its gradient, sliced in place: the objects stay, so ties and references do, too.

    Of a large one what is cut off is kept for `take_back`, the whole is not: slicing takes the memory of one
    more tensor, however many are sliced. Memory that others see as well, in a view or an alias, would not be
    freed by that; it is left to them and put back as it is.
    """

    def __init__(self, tensor: Tensor, axes: Mapping[int, slice | Tensor]):
        self.tensor = tensor
        self.axes = axes
        self._done: list[_Cut | Replaced] = []

    def carry_out(self) -> None:
        """Slice, axis by axis."""
        parts = [part for part in (self.tensor, self.tensor.grad) if part is not None]
        is_small = self.tensor.numel() * self.tensor.itemsize <= _SMALL
        if is_small or not all(map(_owns_its_memory, parts)):
            slices = partial(sliced, axes=self.axes)
            self._do(Replaced(self.tensor, slices, slices))
            return
        for part in parts:
            for axis, kept in self.axes.items():
                self._do(_Cut(part, axis, kept))

    def _do(self, step: _Cut | Replaced) -> None:
        self._done.append(step)
        step.carry_out()

    def take_back(self) -> None:
        """Put data and gradient back: the same objects, values and strides."""
        while self._done:
            self._done[-1].take_back()
            self._done.pop()


class _Cut:
    """One axis of one tensor in two parts; the whole is put together again from them."""

    def __init__(self, tensor: Tensor, axis: int, kept: slice | Tensor):
        self._tensor, self._axis, self._kept = tensor, axis, kept
        self._shape, self._stride = tensor.shape, tensor.stride()
        self._dropped = _others(kept, tensor.shape[axis], tensor.device)
        self._cut_off = sliced(tensor.data, {axis: self._dropped})

    def carry_out(self) -> None:
        with as_made(self._tensor):
            self._tensor.data = sliced(self._tensor.data, {self._axis: self._kept})

    def take_back(self) -> None:
        if self._tensor.shape == self._shape:  # interrupted before the cut, or nothing was cut off
            return
        with as_made(self._tensor):
            whole = self._cut_off.new_empty_strided(self._shape, self._stride)
            slots_first = bits(whole).movedim(self._axis, 0)
            slots_first[self._kept] = bits(self._tensor.data).movedim(self._axis, 0)
            slots_first[self._dropped] = bits(self._cut_off).movedim(self._axis, 0)
            self._tensor.data = whole


def as_made(tensor: Tensor) -> AbstractContextManager[None]:
    """Make data for a tensor in inference mode if it was made there, and nowhere else: else it is neither."""
    is_so = tensor.is_inference() == torch.is_inference_mode_enabled() and not torch.is_grad_enabled()
    return nullcontext() if is_so else _made_in(tensor.is_inference())


@contextmanager
def _made_in(inference: bool) -> Iterator[None]:
    with torch.inference_mode(inference), torch.no_grad():
        yield


def _others(kept: slice | Tensor, size: int, device: torch.device) -> Tensor:
    others = torch.ones(size, dtype=torch.bool, device=device)
    others[kept] = False
    return others.nonzero().flatten()


class Replaced:
    """A tensor with other data, and its gradient with other values; the old ones are kept for `take_back`.

    The object stays, so ties and references do, too.
    """

    def __init__(
        self, tensor: Tensor, data: Callable[[Tensor], Tensor], grad: Callable[[Tensor], Tensor | None]
    ):
        self._tensor, self._data, self._grad = tensor, data, grad
        self._before: tuple[Tensor, Tensor | None] | None = None

    def carry_out(self) -> None:
        """Give the tensor what the functions make of the old data and gradient, in memory of its own."""
        data, grad = self._before = self._tensor.data, self._tensor.grad
        self._tensor.grad = None
        with as_made(self._tensor):
            self._tensor.data = self._data(data)
        if grad is not None:
            self._tensor.grad = self._grad(grad)

    def take_back(self) -> None:
        """Put data and gradient back, as the same objects."""
        if self._before is not None:
            data, grad = self._before
            self._tensor.grad = None
            with as_made(self._tensor):
                self._tensor.data = data
            self._tensor.grad = grad


_WHOLE_NUMBERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(tensor: Tensor) -> Tensor:
    """The same memory as whole numbers: torch can write into parts of these, whatever the dtype is."""
    if tensor.itemsize not in _WHOLE_NUMBERS or tensor.is_conj() or tensor.is_neg():
        return tensor
    return tensor.view(_WHOLE_NUMBERS[tensor.itemsize])


def _owns_its_memory(tensor: Tensor) -> bool:
    """Whether `tensor` fills its storage, and no view, alias or graph of autograd refers to that."""
    if tensor.layout is not torch.strided or tensor.is_meta or is_traceable_wrapper_subclass(tensor):
        return False
    storage = tensor.untyped_storage()  # with this name and `tensor`, two refer to it
    alone = tensor.grad_fn is None and users_of(storage) == 2
    filled = storage.nbytes() == tensor.nbytes and tensor.permute(memory_order(tensor)).is_contiguous()
    return alone and filled


def memory_order(tensor: Tensor) -> list[int]:
    """The axes from the outermost to the innermost in memory; in their own order if memory has gaps.

    An axis of size 1 may stand anywhere: it comes after another of its stride, which is where both
    ``torch.contiguous_format`` and ``torch.channels_last`` have it.
    """
    own = list(range(tensor.dim()))
    if tensor.layout is not torch.strided or (tensor.is_contiguous() and 1 not in tensor.shape):
        return own
    strides = list(zip(tensor.stride(), tensor.shape))
    order = sorted(own, key=strides.__getitem__, reverse=True)
    return order if tensor.permute(order).is_contiguous() else own


def sliced(tensor: Tensor, axes: Mapping[int, slice | Tensor]) -> Tensor:
    """`tensor` with only these indices of these axes, its axes in memory as they were, without gaps.

    It has no tie to the old storage.
    """
    own, order = list(range(tensor.dim())), memory_order(tensor)
    result = tensor if order == own else tensor.permute(order)
    is_dense = tensor.layout is torch.strided
    places = sorted((order.index(axis), kept) for axis, kept in axes.items())
    for place, kept in places:
        if isinstance(kept, slice):  # where that can be, nothing is copied yet
            narrow = result.narrow if is_dense else result.narrow_copy
            result = narrow(place, kept.start, kept.stop - kept.start)
    for place, kept in places:
        if not isinstance(kept, slice):
            result = result.index_select(place, kept)
    if is_dense and all(isinstance(kept, slice) for kept in axes.values()):
        result = result.clone(memory_format=torch.contiguous_format)
    elif not axes:
        result = result.clone()
    return result if order == own else result.permute([order.index(axis) for axis in own])


def is_ordinary(tensor: Tensor) -> bool:
    """Whether it is one of torch's own with all its values in memory, as most are."""
    is_own = type(tensor) is nn.Parameter or type(tensor) is Tensor
    return is_own and tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_nested


def can_be_sliced(tensor: Tensor) -> bool:
    """Whether slots can be taken out of each axis, be they a run or not, and be set to zero."""
    if is_ordinary(tensor) or is_lazy(tensor) or isinstance(tensor, FakeTensor) or not tensor.numel():
        return True
    index = torch.tensor([0], device=tensor.device)
    try:
        with torch.no_grad():
            for axis in range(tensor.dim()):
                for kept in slice(0, 1), index:
                    alias = tensor.detach()
                    alias.data = sliced(alias, {axis: kept})
                    alias.index_fill_(axis, index, 0)
        return True
    except Exception:  # each kind fails in its own way
        return False
