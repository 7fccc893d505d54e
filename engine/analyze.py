"""The way to a graph: rules are loaded, the model is traced, and what the rules say of it is derived."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from torch import nn

from ..adapters.inputs import guess_inputs
from ..adapters.lower import LOWERINGS
from ..adapters.submodules import tensors_of
from ..adapters.wrappers import check_sliceable
from ..errors import PlanError, RuleError, TraceError
from ..rules import load
from .calibrating import Measured, first_sequence, inputs_of
from .choosing import Options, bundles_of, check_reached
from .derive import derive, witnessed
from .graph import DependencyGraph
from .scoring import Loss
from .tracing import Trace, alone, trace

# A graph, what the model was traced with, in words, and what runs the model once more.
Analysed = tuple[DependencyGraph, str, Callable[..., Trace]]


@alone
def analyze(
    model: nn.Module,
    example_inputs: Any = None,
    *,
    rules: Any = "default",
    prefer: str = "outer",
    fake: bool = False,
    strict: bool = False,
    free_outputs: Sequence[int] = (),
) -> DependencyGraph:
    """Derive which slots of `model` must go together, without changing it.

    Parameters
    ----------
    model : any module that runs eagerly.
    example_inputs : a tensor, a tuple of positional arguments, a dict of keyword arguments, or the pair
        ``(args, kwargs)``; or a list of several calls, each in one of these forms, which are traced and
        coupled together, where one alone does not reach all of the model. Guessed if not given.
    rules : ``"default"``, paths of ``.rules`` files, or a list of these; later ones win. The modules that a
        file names as targets are imported, and so run: give only files that you trust.
    prefer : ``"outer"`` prunes whole heads and groups, ``"inner"`` the slots inside them.
    fake : run on fake tensors: no memory and no arithmetic, for models larger than the machine.
    strict : an operation without a rule is a `RuleError` instead of being held, and a tensor that was not
        reached and is as wide as what `prune` removes slots of (here: as what it may choose) a `PlanError`.
    free_outputs : positions of output tensors, of every call, whose shape may change (backbones).

    Raises
    ------
    RuleSyntaxError, RuleError, TraceError, PlanError
        The model is left as it was.

    Examples
    --------
    >>> import torch
    >>> from prunus import engine
    >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    >>> graph = engine.analyze(model, torch.randn(2, 8))
    >>> for group in graph.groups:
    ...     print(group.name, group.size, [str(member) for member in group.members])
    0.out 16 ['0.weight[0]', '0.bias[0]', '2.weight[1]']
    """
    graph, _, retrace = analysed(model, example_inputs, rules, prefer, fake, strict, free_outputs)
    graph = witnessed(graph, retrace)
    if strict:
        groups = (group.name for bundle in bundles_of(graph, Options()) for group in bundle.groups)
        check_reached(graph.unreached, set(groups))
    return graph


def analysed(
    model: nn.Module,
    example_inputs: Any,
    rules: Any,
    prefer: str,
    fake: bool,
    strict: bool,
    free_outputs: Sequence[int],
) -> Analysed:
    """The graph as the first trace tells it, what it was traced with, and what runs the model once more."""
    if prefer not in ("outer", "inner"):
        raise PlanError(
            f"prefer is 'outer' (whole heads and groups) or 'inner' (inside them), not {prefer!r}"
        )
    check_sliceable(model)
    described = "the example inputs given"
    if example_inputs is None:
        on_meta = any(one.is_meta for one in tensors_of(model))
        args, kwargs, described = guess_inputs(model, _run_without_values) if on_meta else guess_inputs(model)
        example_inputs = (args, kwargs)
    ruleset = load(rules)
    retrace = partial(trace, model, example_inputs, fake=fake, opaque=ruleset.opaque, lower=LOWERINGS)
    graph = derive(model, retrace, ruleset, prefer, free_outputs, example_inputs)
    if strict and any(call.costs for call in graph.unknown):
        raise RuleError("\n".join(str(call) for call in graph.unknown if call.costs))
    return graph, described, retrace


def analysed_on(
    model: nn.Module,
    data: Iterable[Any] | Measured | None,
    loss: Loss | None,
    example_inputs: Any,
    analysed_with: Callable[[Any], Analysed],
) -> Analysed:
    """What is analysed with the example inputs; if there are none with the first batch of the data, or its
    first sequence, as the model runs often."""
    if isinstance(data, Measured) and data.inputs is not None and example_inputs is None:
        graph, _, retrace = analysed_with(data.inputs)
        return graph, "what data= was measured with", retrace
    # What a loss is given may be in another form than what the model is given.
    if example_inputs is not None or data is None or isinstance(data, Measured) or loss is not None:
        return analysed_with(example_inputs)
    try:
        graph, _, retrace = analysed_with(first_sequence(inputs_of(model, data)[0]))
    except TraceError as error:
        raise TraceError(
            f"{error}\nthe model was run on the first batch of data=, which has inputs alone, without "
            "labels; else give example_inputs="
        ) from error
    return graph, "the first batch of data=", retrace


def _run_without_values(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """How inputs are tried on a model on the meta device: fake tensors know more than those do."""
    trace(model, (args, kwargs), fake=True, training=False, filed=(), plain=True)
