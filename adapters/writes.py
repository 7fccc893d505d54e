"""The contents of tensors: copied when an operation is about to write into them, and put back."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from attrs import define, field
from torch import Tensor

from ..torch_private import TorchDispatchMode, is_traceable_wrapper_subclass

_OF_TORCH = (Tensor, torch.nn.Parameter)  # which are no wrappers: to ask takes long


@define(eq=False)
class Contents:
    """One tensor: the memory that it has, an unchanged view of it, and a copy once it is to be written."""

    tensor: Tensor
    view: Tensor = field(init=False)
    place: tuple[Any, ...] = field(init=False)
    requires_grad: bool = field(init=False)
    grad: Tensor | None = field(init=False)
    copy: Tensor | None = None

    def __attrs_post_init__(self) -> None:
        self.view = self.tensor.data
        self.place = _place(self.view)
        self.requires_grad = self.tensor.requires_grad
        self.grad = self.tensor.grad if self.tensor.is_leaf else None

    def save(self) -> None:
        if self.copy is None and not self.view.is_meta:
            with torch.inference_mode(self.view.is_inference()):
                self.copy = self.view.clone()

    def put_back(self) -> None:
        tensor, view = self.tensor, self.view
        is_elsewhere = _place(tensor) != self.place
        if is_elsewhere or self.copy is not None:
            with torch.no_grad(), torch.inference_mode(view.is_inference()):
                if self.copy is not None:
                    view.copy_(self.copy)
                if is_elsewhere:
                    tensor.data = view
        if tensor.is_leaf:
            if tensor.requires_grad is not self.requires_grad:
                tensor.requires_grad_(self.requires_grad)
            if tensor.grad is not self.grad:
                tensor.grad = self.grad


def memory_of(tensor: Tensor) -> int:
    """What tells whether two tensors share their memory."""
    if not _has_strides(tensor):
        return id(tensor)
    return tensor.untyped_storage()._cdata


def _place(tensor: Tensor) -> tuple[Any, ...]:
    """Where a tensor's numbers are, and how they lie."""
    if not _has_strides(tensor):
        return None if tensor.is_nested else tensor.shape, tensor.dtype
    memory = tensor.untyped_storage()._cdata
    return memory, tensor.dtype, tensor.shape, tensor.stride(), tensor.storage_offset()


def _has_strides(tensor: Tensor) -> bool:
    """Whether it has memory of its own that strides lead through."""
    is_wrapper = type(tensor) not in _OF_TORCH and is_traceable_wrapper_subclass(tensor)
    return not is_wrapper and tensor.layout is torch.strided and not tensor.is_nested


class Writes(TorchDispatchMode):
    """Tells of every tensor that an operation is about to write into."""

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to keep it off, torch would load the compiler, which takes seconds

    def __init__(self, save: Callable[[Tensor], None]):
        super().__init__()
        self._save = save

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for argument, flag in _written(func):
            if flag is not None and _given(flag, args, kwargs) is False:
                continue
            given = _given(argument, args, kwargs)
            for one in given if isinstance(given, (list, tuple)) else [given]:
                if isinstance(one, Tensor):
                    self._save(one)
        return func(*args, **kwargs)


_Argument = tuple[int, str]  # where it may stand, and its name
_FLAGS = ("training", "use_input_stats")


def _given(argument: _Argument, args: Any, kwargs: Any) -> Any:
    position, name = argument
    return args[position] if position < len(args) else kwargs.get(name)


@lru_cache(maxsize=4096)
def _written(func: Any) -> tuple[tuple[_Argument, _Argument | None], ...]:
    """The arguments that an operator changes, each with a flag without which it is only read, if any.

    The schema says what is changed, but not of running statistics.
    """
    schema = getattr(func, "_schema", None)
    arguments = list(enumerate(schema.arguments if schema else ()))
    flag = next(((position, one.name) for position, one in arguments if one.name in _FLAGS), None)
    return tuple(
        ((position, one.name), None if one.is_write else flag)
        for position, one in arguments
        if one.is_write or one.name.startswith("running_")
    )
