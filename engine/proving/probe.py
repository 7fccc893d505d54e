"""One call of an operation as a model of its own, so that everything said of models can be said of it."""

from __future__ import annotations

import copy
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ...adapters.contents import tensors_in
from ...rules.arguments import argument_names, bind, changed_arguments
from ...rules.examples import Example
from ...torch_private import TorchDispatchMode
from ..tracing import mapped, trace


@frozen
class _Tensor:
    """Stands for the tensor of that name."""

    name: str


@frozen
class _Number:
    """Stands for an integer of the call, which may be a size."""

    index: int


class Probe(nn.Module):
    """The call of an `Example`: its tensors are buffers, its integers attributes, its results the outputs.

    Each probe has copies of the tensors, and of the module if the example calls one.
    """

    def __init__(self, example: Example):
        super().__init__()
        self.numbers: list[int] = []
        self.paths: list[str] = []  # of each number its argument, as a rule writes it
        self.module = copy.deepcopy(example.target) if isinstance(example.target, nn.Module) else None
        self._target = None if self.module is not None else example.target
        names = argument_names(type(self.module) if self.module is not None else example.target) or ()
        labels = [*names[: len(example.args)], *(f"arg{i}" for i in range(len(names), len(example.args)))]
        self._args = tuple(self._held(item, name) for item, name in zip(example.args, labels))
        self._first = example.first
        self._kwargs = {name: self._held(item, name) for name, item in example.kwargs.items()}
        self.eval()

    def forward(self) -> Any:
        args = [mapped(item, self._filled) for item in self._args]
        kwargs = {name: mapped(item, self._filled) for name, item in self._kwargs.items()}
        result = _calling(self._target or self.module)(*args, **kwargs)
        if result is not None:
            return next(tensors_in(result), None) if self._first else result
        if self._target is not None and (names := changed_arguments(self._target)):
            given = bind(self._target, tuple(args), kwargs)
            return [given[name] for name in names if name in given]
        return args[:1]

    def copy(self) -> Probe:
        """The same call with tensors of its own."""
        copied = copy.copy(self)
        copied.numbers = list(self.numbers)
        copied._buffers = {name: None if one is None else one.clone() for name, one in self._buffers.items()}
        copied._modules = {"module": copy.deepcopy(self.module)}
        return copied

    def _held(self, item: Any, name: str) -> Any:
        """What stands for an argument; the tensors and integers in it become the probe's own."""
        if isinstance(item, Tensor):
            name = re.sub(r"\W+", "_", name)
            while hasattr(self, name):
                name += "_"
            self.register_buffer(name, item.detach().clone())
            return _Tensor(name)
        if type(item) is int:
            self.numbers.append(item)
            self.paths.append(name)
            return _Number(len(self.numbers) - 1)
        if isinstance(item, slice):
            return slice(*(self._held(bound, name) for bound in (item.start, item.stop, item.step)))
        if isinstance(item, (list, tuple)):
            parts = [self._held(part, f"{name}[{index}]") for index, part in enumerate(item)]
            return parts if isinstance(item, list) else tuple(parts)
        return item

    def _filled(self, item: Any) -> Any:
        """What `_held` has put something in the place of."""
        if isinstance(item, _Tensor):
            return getattr(self, item.name)
        return self.numbers[item.index] if isinstance(item, _Number) else item


def _calling(target: Any) -> Callable[..., Any]:
    """How a target is called: an autograd function by its ``apply``, as it is while a trace replaces it."""
    if isinstance(target, type) and issubclass(target, torch.autograd.Function):
        return target.apply
    return target


def run(probe: Probe, seed: int = 0) -> list[Tensor]:
    """The results of the call, in order; whatever it changes in place, `probe` stays as it is."""
    with torch.no_grad(), torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed is slow: it records a traceback
        return [result.clone() for result in tensors_in(probe.copy()())]


def counted_macs(probe: Probe) -> int:
    """The multiply-accumulates of the call, as far as torch counts them; none if it runs others' kernels."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter, _Foreign() as foreign:
        probe.copy()()
    return 0 if foreign.met else counter.get_total_flops() // 2


class _Foreign(TorchDispatchMode):
    """Notes whether an operator runs that is not torch's own."""

    met = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.met |= func.namespace not in ("aten", "prim", "prims")
        return func(*args, **(kwargs or {}))


def tensors_of(probe: Probe) -> dict[str, Tensor]:
    """The tensors of the call by name, those of its module too."""
    return dict(itertools.chain(probe.named_parameters(), probe.named_buffers()))


def draws_of(example: Example) -> Iterator[Probe]:
    """The call with its own numbers, with others of the same signs, with positive and with negative ones."""
    generator = torch.Generator().manual_seed(0)
    for change in (None, Tensor.clone, Tensor.abs, lambda tensor: -tensor.abs()):
        probe = Probe(example)
        own = list(probe.parameters())
        for tensor in [*own, *probe.buffers(recurse=False)]:
            if not tensor.is_floating_point():
                continue
            if any(tensor is one for one in own):
                tensor.data = torch.randn(tensor.shape, generator=generator).to(tensor)
            elif change is not None:
                factor = 0.5 + 0.5 * torch.rand(tensor.shape, generator=generator).to(tensor)
                tensor.data = factor * change(tensor)
        yield probe


def results_of(probe: Probe) -> list[Tensor]:
    """The results of the call; none if the operation does not take these numbers, or there are no numbers."""
    try:
        results = run(probe)
        return [] if any(one.is_meta for one in results) else results
    except Exception:  # the operation's own complaint, whatever it is
        return []


def is_equal(ones: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Whether results are the same, up to rounding; not-a-number is equal to itself."""
    return all(
        torch.allclose(one, other, rtol=_tolerance(one), atol=_tolerance(one), equal_nan=True)
        for one, other in zip(ones, others)
    )


def _tolerance(tensor: Tensor) -> float:
    """Half of the digits that the dtype has."""
    return torch.finfo(tensor.dtype).eps ** 0.5 if has_fractions(tensor) else 0.0


def has_fractions(tensor: Tensor) -> bool:
    """Whether these are numbers, rather than positions or flags."""
    return tensor.is_floating_point() or tensor.is_complex()


def is_recorded(example: Example) -> bool:
    """Whether a trace sees the call as one; it looks into Python functions, unless torch lets it see them."""
    target = example.rule_target
    opaque = frozenset((target,)) if isinstance(target, type) else frozenset()
    return any(call.target == target for call in trace(Probe(example), (), opaque=opaque).calls)
