"""Corrects the weights that read pruned slots, from calibration data, so that their results change least.

What a reader loses is estimated from what it keeps: by its mean, ``x_dropped ~ b``, or by least squares,
``x_dropped ~ A x_kept + b``. As the reader is linear, the estimate goes into its kept weights and its bias:
``W_kept += W_dropped A`` and ``bias += W_dropped b``, along the axis that it sums over and whatever its other
axes are. Where each result reads one position (linear layers, kernels of one) this is the optimum of the
output over the data; with a kernel of several positions it is that of what the kernel reads, as channels are
estimated from channels at the same position only, and as padding counts as if it had the mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import reduce
from operator import add
from typing import Any

from torch import Tensor

from ...adapters.plan import Plan
from ...adapters.tensors import named_tensors
from ...errors import PlanError
from ..coupling import Place
from ..grouping import Groups
from .batches import batches, calibrate_parts, check_finite
from .changes import Added, Corrections, Mixed, dropped
from .losing import Losing, losing_weights
from .measured import Measured
from .readers import added_axes
from .ridge import Fit, choose_strength, fit
from .rounds import rounds
from .sequential import InSequence, in_sequence
from .statistics import Statistics
from .told import WORSE, Told

METHODS = ("mean", "lstsq")

# Entries of data from which on blocks may make up for one another: with 256 tokens that was worse than none
# with one of five texts, on MiniLM.
LEAST_IN_SEQUENCE = 1024

# None is added: plan, optimizer, file and config would have to know of it, and a fresh model to have it.
_NO_BIAS = (
    "they have no bias of their own for a mean to go into: compensate='lstsq' needs none; or give them "
    "biases of zeros before pruning, as mlp_bias=True and the like do in configs of transformers"
)
_NOT_REACHED = "no batch of data= reaches them"
_NO_CHAIN = (
    "sequential=True corrects modules that hand one tensor on, each to the next, and none of them reads what "
    "is pruned with a matrix: leave it out"
)


def check_correction(how: Any, sequential: Any) -> None:
    """Raise `PlanError` unless these are values of ``compensate=`` and ``sequential=`` that go together."""
    if sequential is not None and not isinstance(sequential, bool):
        raise PlanError(f"sequential= is True, False or None, not {sequential!r}")
    method = None if how is None else _method(how)[0]
    if sequential and method != "lstsq":
        raise PlanError(f"sequential=True is a way to correct by compensate='lstsq', not by {method!r}")


def corrections(
    graph: Groups,
    plan: Plan,
    data: Iterable[Any] | Measured | None,
    how: str | tuple[str, float] = "lstsq",
    sequential: bool | None = False,
) -> Corrections:
    """What to do to the readers of the slots that `plan` drops, for `adapters.apply.carry_out`.

    Parameters
    ----------
    graph : the analysed model, not pruned yet; it is left as it was.
    data : batches in the forms that `analyze` takes; `calibrate` runs them.
    how : ``"mean"`` replaces what is dropped by its mean, as FLAP does (An et al., AAAI 2024): only biases
        change. ``"lstsq"`` estimates it from what is kept, as structured OBS does (ZipLM, Kurtic et al.,
        NeurIPS 2023; OSSCAR, Meng et al., ICML 2024; SlimGPT, Ling et al., NeurIPS 2024). It takes two
        matrices of size x size for each axis that is read and loses slots, of the first and the last half of
        the data: each tells how strong a ridge makes the estimate from the other best, and whether any is
        better than none, see `ridge`. So data of several sources are best given one after the other.
        ``("lstsq", 0.1)`` sets that strength for all readers, relative to the mean square of a slot: more
        trusts the data less. It is not tried then, and takes one matrix.
    sequential : correct the blocks of the model one after the other by least squares, see `sequential`; what
        lies outside of them as without. `None` if there are any, and data enough (`LEAST_IN_SEQUENCE`).

    Raises
    ------
    PlanError
        Another `how`, a strength that is not above zero, data that cannot be used, or `sequential` where
        there are no such blocks, or of a model that cannot be copied.
    """
    method, strength = _method(how)
    if not isinstance(data, Measured):
        data = batches(data)
    found, told = Corrections(), Told()
    losing = losing_weights(graph, plan, told)
    if method == "mean":
        losing = _with_bias(losing, told)
    later = _later(graph, plan, data, losing, sequential)
    now = [one for one in losing if later is None or one not in later.losing.values()]
    parts = 1 if strength is not None else 2
    for some in rounds(now, lambda one: one.places, parts if method == "lstsq" else 0):
        places = {place: None for one in some for place in one.places}
        statistics = calibrate_parts(graph, data, places, products=method == "lstsq", parts=parts)
        _correct_all(found, graph, plan, some, statistics, strength, told)
    if later is not None:
        later.correct(found, strength, told)
    found.notes = told.notes()
    return found


def _later(
    graph: Groups,
    plan: Plan,
    data: list[Any] | Measured,
    losing: list[Losing],
    sequential: bool | None,
) -> InSequence | None:
    """What is corrected in sequence, after all else; raises `PlanError` if that is asked for in vain."""
    if sequential is False:
        return None
    if isinstance(data, Measured):
        if sequential:
            raise PlanError("sequential=True runs batches, which data= that was measured has not: give them")
        return None
    later = in_sequence(graph, plan, data, losing)
    if later is None:
        if sequential:
            raise PlanError(_NO_CHAIN)
        return None
    return later if sequential or later.entries() >= LEAST_IN_SEQUENCE else None


def _correct_all(
    found: Corrections,
    graph: Groups,
    plan: Plan,
    losing: list[Losing],
    statistics: Mapping[Place, list[Statistics]],
    strength: float | None,
    told: Told,
) -> None:
    """Correct weights by the statistics of what they read."""
    tensors = named_tensors(graph.model)
    for alike in _alike(losing, statistics, told):
        read = _read(alike[0], statistics)
        fit = _fit(alike, read, plan, tensors, strength)
        for one in alike:
            if fit is None:
                told.leave(one.weight.tensor, WORSE)
            else:
                _correct(found, graph, one, tensors[one.weight.tensor], fit)
        if strength is None:
            told.count(sum(part.count for part in read), len(read[0].mean))


def _method(how: Any) -> tuple[str, float | None]:
    """How to estimate, and the strength for all readers; None if it is chosen for each."""
    method, strength = how if isinstance(how, tuple) and len(how) == 2 else (how, None)
    if method not in METHODS or (isinstance(how, tuple) and method == "mean"):
        raise PlanError(f"compensate= is 'mean', 'lstsq' or a pair as ('lstsq', 0.1), not {how!r}")
    if method == "mean":
        return method, math.inf
    if isinstance(how, tuple) and not (isinstance(strength, (int, float)) and 0 < strength < math.inf):
        raise PlanError(f"the strength in compensate= is a number above zero, such as 0.1, not {strength!r}")
    return method, strength


def _with_bias(losing: list[Losing], told: Told) -> list[Losing]:
    """The weights with a bias that a mean can go into."""
    for one in losing:
        if one.bias is None:
            told.leave(one.weight.tensor, _NO_BIAS)
    return [one for one in losing if one.bias is not None]


def _alike(
    losing: list[Losing], statistics: Mapping[Place, list[Statistics]], told: Told
) -> list[list[Losing]]:
    """Weights that share an estimate, as query, key and value do, by what they read."""
    found: dict[tuple[tuple[Place, ...], bool], list[Losing]] = {}
    for one in losing:
        if not any(place in statistics for place in one.places):
            told.leave(one.weight.tensor, _NOT_REACHED)
        else:
            found.setdefault((one.places, one.bias is not None), []).append(one)
    return list(found.values())


def _read(one: Losing, statistics: Mapping[Place, list[Statistics]]) -> list[Statistics]:
    """What a weight reads, in all places together, of each part of the data."""
    read = [reduce(add, parts) for parts in zip(*(statistics[p] for p in one.places if p in statistics))]
    check_finite(read, one.weight.tensor)
    return read


def _fit(
    alike: list[Losing],
    read: list[Statistics],
    plan: Plan,
    tensors: Mapping[str, Tensor],
    strength: float | None,
) -> Fit | None:
    """The estimate for weights that read the same; None if none is worth it on data that it has not seen."""
    weight, biased = alike[0].weight, alike[0].bias is not None
    kept = plan.tensors[weight.tensor][weight.axis]
    if strength is None:
        columns = [tensors[one.weight.tensor].detach().movedim(one.weight.axis, 0) for one in alike]
        strength = choose_strength(read, kept, biased, columns)
    return None if strength is None else fit(reduce(add, read), kept, biased, strength)


def _correct(found: Corrections, graph: Groups, one: Losing, tensor: Tensor, fit: Fit) -> None:
    weight = one.weight
    if fit.shares is not None:
        found.tensors[weight.tensor] = Mixed(weight.axis, fit)
    if one.bias is not None:
        axes = added_axes(graph, one.bias, weight)
        summed = [axis for axis in range(tensor.dim()) if axis != weight.axis and axis not in (axes or ())]
        lost = dropped(tensor, weight.axis, fit).permute(*summed, *(axes or ()), weight.axis)
        step = (lost.flatten(0, len(summed) - 1).sum(0) if summed else lost) @ fit.rest
        before = found.tensors.get(one.bias)
        found.tensors[one.bias] = Added(step + before.step if isinstance(before, Added) else step)
