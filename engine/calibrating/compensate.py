"""Corrects the weights that read pruned slots, from calibration data, so that their results change least.

What a reader loses is estimated from what it keeps: by its mean, ``x_dropped ~ b``, or by least squares,
``x_dropped ~ A x_kept + b``. As the reader is linear, the estimate goes into its kept weights and its bias:
``W_kept += W_dropped A`` and ``bias += W_dropped b``, along the axis that it sums over and whatever its other
axes are. Where each result reads one position (linear layers, kernels of one) this is the optimum of the
output over the data; with a kernel of several positions it is that of what the kernel reads, as channels are
estimated from channels at the same position only, and as padding counts as if it had the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from operator import add
from typing import Any

import torch
from attrs import Factory, define, frozen
from torch import Tensor

from ...adapters.plan import Plan
from ...adapters.tensors import named_tensors
from ...errors import PlanError
from ..coupling import Place
from ..grouping import Groups, Member
from ..tracing import Call
from .batches import batches, calibrate
from .readers import Reader, added_axes, readers, uses
from .statistics import Statistics

METHODS = ("mean", "lstsq")


@define(eq=False)
class Corrections:
    """What is done to tensors before they are sliced; ``notes`` tell which readers are left alone.

    ``tensors`` gives by name a function from the whole tensor to a new one of the same shape and dtype,
    which is right where the plan keeps it.
    """

    tensors: dict[str, Callable[[Tensor], Tensor]] = Factory(dict)
    notes: list[str] = Factory(list)


def corrections(
    graph: Groups, plan: Plan, data: Iterable[Any] | None, how: str = "lstsq", *, damping: float = 1e-3
) -> Corrections:
    """What to do to the readers of the slots that `plan` drops, for `adapters.apply.carry_out`.

    Parameters
    ----------
    graph : the analysed model, not pruned yet; it is left as it was.
    data : batches in the forms that `analyze` takes; `calibrate` runs them.
    how : ``"mean"`` replaces what is dropped by its mean, as FLAP does (An et al., AAAI 2024): only biases
        change. ``"lstsq"`` estimates it from what is kept, as structured OBS does (ZipLM, Kurtic et al.,
        NeurIPS 2023; OSSCAR, Meng et al., ICML 2024; SlimGPT, Ling et al., NeurIPS 2024). It takes a
        matrix of size x size for each axis that is read and loses slots.
    damping : for ``"lstsq"``, what is added to the moments' diagonal, relative to its mean. More trusts the
        data less.

    Raises
    ------
    PlanError
        Another `how`, no damping at all, or data that cannot be used.
    """
    if how not in METHODS:
        raise PlanError(f"compensate= is one of {', '.join(map(repr, METHODS))}, not {how!r}")
    if not damping > 0:
        raise PlanError(f"damping= is a number above zero, such as 1e-3, not {damping!r}")
    data = batches(data)
    found = Corrections()
    used = uses(graph)
    losing, found.notes = _losing(graph, plan, used)
    places = {reader.data: None for those in losing.values() for reader in those}
    statistics = calibrate(graph, data, places, products=how == "lstsq") if places else {}
    fits = _Fits(statistics, damping if how == "lstsq" else None)
    tensors = named_tensors(graph.model)
    for weight, readers_of in losing.items():
        those = [reader for reader in readers_of if reader.data in statistics]
        if not those:
            found.notes.append(f"{weight.tensor} is not corrected: no batch of data= reaches it")
            continue
        kept = plan.tensors[weight.tensor][weight.axis]
        bias = _bias(those, used)
        if bias is None and how == "mean":
            found.notes.append(f"{weight.tensor} is not corrected: it has no bias of its own that could be")
            continue
        _correct(found, graph, weight, bias, tensors[weight.tensor], fits.of(those, kept, bias is not None))
    return found


def _losing(
    graph: Groups, plan: Plan, used: Mapping[str, set[Call]]
) -> tuple[dict[Member, list[Reader]], list[str]]:
    """The weights that lose slots of what they read, with their readers, and which of them are left alone."""
    losing: dict[Member, list[Reader]] = {}
    notes: list[str] = []
    by_weight: dict[Member, list[Reader]] = {}
    for reader in readers(graph):
        if reader.weight.axis in plan.tensors.get(reader.weight.tensor, ()):
            by_weight.setdefault(reader.weight, []).append(reader)
    for weight, those in by_weight.items():
        others = [call for call in used[weight.tensor] if call not in {reader.call for reader in those}]
        if others:
            notes.append(f"{weight.tensor} is not corrected: {_first(others).name} uses it as well")
        elif any(reader.paired for reader in those):
            notes.append(f"{weight.tensor} is not corrected: it is several weights that read different data")
        else:
            losing[weight] = those
    return losing, notes


def _first(calls: Iterable[Call]) -> Call:
    return min(calls, key=lambda call: call.index)


def _bias(those: list[Reader], used: Mapping[str, set[Call]]) -> str | None:
    """The bias that goes with a weight wherever either is used."""
    names = {reader.bias for reader in those}
    name = names.pop() if len(names) == 1 else None
    return name if name is not None and used[name] <= {reader.call for reader in those} else None


@frozen(eq=False)
class _Fit:
    """An estimate of dropped slots: shares of kept ones, ``(dropped, kept)``, and a rest, ``(dropped,)``."""

    kept: Tensor
    dropped: Tensor
    shares: Tensor | None
    rest: Tensor


class _Fits:
    """Estimates of dropped slots; weights that read the same value share one, as query, key and value do."""

    def __init__(self, statistics: dict[Place, Statistics], damping: float | None):
        self._statistics, self._damping = statistics, damping
        self._known: dict[tuple[tuple[Place, ...], bool], _Fit] = {}

    def of(self, those: list[Reader], kept: list[int], biased: bool) -> _Fit:
        """The estimate for the readers of one weight; without a bias it has no rest."""
        places = tuple(dict.fromkeys(reader.data for reader in those))
        if (places, biased) not in self._known:
            read = reduce(add, (self._statistics[place] for place in places))
            if not read.scatter.isfinite().all():
                name = those[0].weight.tensor
                raise PlanError(
                    f"with data= the model computes what is not finite: {name} is multiplied with it"
                )
            self._known[places, biased] = self._fit(read, kept, biased)
        return self._known[places, biased]

    def _fit(self, read: Statistics, kept: list[int], biased: bool) -> _Fit:
        mean = read.mean
        keep = torch.zeros(len(mean), dtype=torch.bool, device=mean.device)
        keep[kept] = True
        inside, outside = keep.nonzero().flatten(), (~keep).nonzero().flatten()
        if self._damping is None:
            return _Fit(inside, outside, None, mean[outside])
        moments = read.scatter[inside] / max(read.count, 1)
        if not biased:
            moments = moments + torch.outer(mean[inside], mean)
        shares = _solve(moments[:, inside], moments[:, outside], self._damping).T
        return _Fit(inside, outside, shares, mean[outside] - shares @ mean[inside])


def _solve(inner: Tensor, across: Tensor, damping: float) -> Tensor:
    """``(inner + damping)^-1 across`` in float64; slots that are never anything have no share in others."""
    inner = inner.double()
    diagonal = inner.diagonal()
    diagonal += damping * diagonal.mean() + torch.finfo(torch.float32).tiny
    return torch.linalg.solve(inner, across.double()).to(across.dtype)


def _correct(
    found: Corrections, graph: Groups, weight: Member, bias: str | None, tensor: Tensor, fit: _Fit
) -> None:
    if fit.shares is not None:
        found.tensors[weight.tensor] = _Mixed(weight.axis, fit)
    if bias is not None:
        axes = added_axes(graph, bias, weight)
        summed = [axis for axis in range(tensor.dim()) if axis != weight.axis and axis not in (axes or ())]
        lost = _dropped(tensor, weight.axis, fit).permute(*summed, *(axes or ()), weight.axis)
        step = (lost.flatten(0, len(summed) - 1).sum(0) if summed else lost) @ fit.rest
        before = found.tensors.get(bias)
        found.tensors[bias] = _Added(step + before.step if isinstance(before, _Added) else step)


def _dropped(weight: Tensor, axis: int, fit: _Fit) -> Tensor:
    return weight.detach().index_select(axis, fit.dropped).to(fit.rest.dtype)


@frozen(eq=False)
class _Mixed:
    """Adds to the weights of the kept slots their shares of those of the dropped ones."""

    axis: int
    fit: _Fit

    def __call__(self, weight: Tensor) -> Tensor:
        assert self.fit.shares is not None
        gained = torch.tensordot(_dropped(weight, self.axis, self.fit), self.fit.shares, ([self.axis], [0]))
        kept = weight.index_select(self.axis, self.fit.kept) + gained.movedim(-1, self.axis)
        return weight.index_copy(self.axis, self.fit.kept, kept.to(weight.dtype))


@frozen(eq=False)
class _Added:
    """Adds a step to a bias."""

    step: Tensor

    def __call__(self, bias: Tensor) -> Tensor:
        return (bias + self.step).to(bias.dtype)
