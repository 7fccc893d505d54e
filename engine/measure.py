"""Measures once what data tell of a model, for several prunings of it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from torch import nn

from ..adapters.wrappers import check_sliceable
from .analyze import analysed, analysed_on
from .calibrating import (
    Measured,
    calibrate_parts,
    kept_inputs,
    named_inputs,
    prepared_for,
    read_places,
    readers,
)
from .derive import witnessed
from .scoring import Loss, Tensors, sensitivity
from .tracing import alone


@alone
def measure(
    model: nn.Module,
    data: Iterable[Any],
    *,
    rules: Any = "default",
    example_inputs: Any = None,
    prefer: str = "outer",
    tokenizer: Any = None,
    loss: Loss | None = None,
    products: bool = True,
) -> Measured:
    """Statistics of what the weights of `model` read, to be given as ``data=`` to `prune`, again and again.

    What `prune` does with them is what it does with the data, for criteria that look at activations and for
    ``compensate=``, but for what runs batches itself: ``sequential=True``, ``"taylor"`` and ``"fisher"``.

    Parameters
    ----------
    data, tokenizer, loss : as for `prune`.
    rules, example_inputs, prefer : as for `prune`, and to be the same there. The first batch, or sequence, is
        kept for it in the place of `example_inputs`.
    products : also those of all pairs of slots, and of gradients of the loss, which ``"obs"``, ``"leverage"``
        and ``compensate="lstsq"`` need: two matrices of size x size in float32 for each axis that is read,
        all held at once.

    Raises
    ------
    PrunusError
        As `prune` does; the model is not changed.

    Examples
    --------
    >>> import torch
    >>> from prunus import engine
    >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    >>> measured = engine.measure(model, [torch.randn(64, 8)])
    >>> engine.prune(model, ratio=0.25, data=measured, criterion="wanda", compensate="lstsq").after
    160
    """
    check_sliceable(model)
    given = prepared_for(model, data, loss, tokenizer)
    analysed_with = partial(
        analysed, model, rules=rules, prefer=prefer, fake=False, strict=False, free_outputs=()
    )
    graph, _, retrace = analysed_on(model, given, loss, example_inputs, analysed_with)
    graph = witnessed(graph, retrace)
    tensors = Tensors(graph, given, loss, tokenizer)
    places = read_places(graph)
    found = calibrate_parts(graph, tensors.inputs, places.values(), products=products, parts=2)
    halves = {name: (found[place][0], found[place][1]) for name, place in places.items() if place in found}
    read = [one for one in readers(graph) if graph.groups_at(one.weight)]
    gradients = sensitivity(tensors, read) if products else {}
    return Measured(halves, gradients, kept_inputs(named_inputs(model, graph.example_inputs)))
