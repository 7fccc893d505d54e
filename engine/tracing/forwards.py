"""The forwards that a trace records: one for each call, and each once more as in training if that differs."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any

import torch

from ...adapters.contents import named_tensors_in, outputs_in
from ...adapters.submodules import each_module, set_training
from ...errors import TraceError, raise_foreign
from .arguments import paired
from .recorder import Recorder
from .values import Call, Read, Run, Value

Tensor = torch.Tensor
_PLAIN = (torch.nn.Module, torch.nn.Sequential, torch.nn.ModuleList, torch.nn.ModuleDict)
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def calls_of(example_inputs: Any) -> list[Arguments]:
    """Positional and keyword arguments of each call: a list is one of several calls, anything else is one."""
    if not isinstance(example_inputs, list):
        return [call_arguments(example_inputs)]
    if not example_inputs:
        raise TraceError("example_inputs is an empty list; it must have the inputs of at least one call")
    return [call_arguments(one) for one in example_inputs]


def call_arguments(example_inputs: Any) -> Arguments:
    """Positional and keyword arguments from any of the forms that the inputs of one call may have."""
    if isinstance(example_inputs, Tensor):
        return (example_inputs,), {}
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, tuple):
        if len(example_inputs) == 2 and type(example_inputs[0]) is tuple and type(example_inputs[1]) is dict:
            return example_inputs
        return example_inputs, {}
    raise TraceError(
        f"example_inputs is a {type(example_inputs).__name__}; it must be a tensor, a tuple of positional "
        "arguments, a dict of keyword arguments, the pair (args, kwargs), or a list of these for several"
    )


def record_forwards(
    model: torch.nn.Module, calls: Sequence[Arguments], recorder: Recorder, training: bool = True
) -> None:
    """Run `model` on each of the calls, and for `training` again where it may do something else then."""
    trace = recorder.trace
    given: list[list[tuple[Value, Tensor]]] = []
    recorder.running.append(("", type(model)))
    for args, kwargs in calls:
        named = _named_inputs(model, args, kwargs)
        given.append([(recorder.new_value(tensor, "input", name), tensor) for name, tensor in named])
        trace.inputs += [value for value, _ in given[-1]]
        start = len(trace.calls)
        outputs = _outputs(model, args, kwargs, recorder)
        trace.runs.append(Run(start, len(trace.calls), outputs))
    if not training:
        return
    left = _parameters_left(recorder)
    told = [module for _, module in each_module(model) if _is_told(module, left)]
    if left or any(map(_mentions_training, told)):
        for run, inputs, (args, kwargs) in zip(list(trace.runs), given, calls):
            before = recorder.first_values()
            before.update((recorder.value_of(tensor), value) for value, tensor in inputs)
            _record_training(model, args, kwargs, recorder, told, run, before)


def run_forward(model: torch.nn.Module, args: Any, kwargs: Any) -> Any:
    """The forward itself. No frame outside this one is taken for the user's code."""
    return model(*args, **kwargs)


def _outputs(model: torch.nn.Module, args: Any, kwargs: Any, recorder: Recorder) -> tuple[Value, ...]:
    with recorder:
        result = run_forward(model, args, kwargs)
        outputs = outputs_in(result)  # a generator computes only now
    if not outputs:
        raise TraceError(_without_output(result))
    return tuple(map(recorder.value_of, outputs))


# As in training


def _parameters_left(recorder: Recorder) -> frozenset[int]:
    """The ids of the parameters that no forward has used."""
    used = recorder.trace.tensors
    state = recorder.state.values()
    return frozenset(id(one) for one, kind, name in state if kind == "parameter" and name not in used)


def _is_told(module: torch.nn.Module, left: frozenset[int]) -> bool:
    """Whether a module is told that it trains, so that it takes its branch for training.

    Those that hold others are, those that own a parameter which is left, and those that take several
    arguments, which they may join then. torch's own layers, and what is made of them, stay in eval mode,
    with their statistics and dropout.
    """
    bases = [base for base in type(module).__mro__ if base not in _PLAIN]
    is_layer = any(base.__module__.startswith("torch.") for base in bases)
    if is_layer and (module._parameters or module._buffers or not module._modules):
        return False
    has_left = any(id(parameter) in left for parameter in module._parameters.values())
    return bool(module._modules) or has_left or len(_arguments_of(module.forward)) > 1


def _arguments_of(forward: Any) -> Collection[str]:
    try:
        return inspect.signature(forward).parameters
    except (TypeError, ValueError):
        return ()


def _mentions_training(module: torch.nn.Module) -> bool:
    """Whether the code of a module may ask if it trains."""
    held = (value.__code__ for value in vars(module).values() if isinstance(value, FunctionType))
    kind: Any = type(module)
    return _class_mentions_training(kind) or any(map(_code_mentions_training, held))


@lru_cache(maxsize=4096)
def _class_mentions_training(kind: type) -> bool:
    bases = [base for base in kind.__mro__ if not base.__module__.startswith("torch.")]
    functions = (inspect.unwrap(one) for base in bases for one in vars(base).values() if callable(one))
    return any(_code_mentions_training(one.__code__) for one in functions if hasattr(one, "__code__"))


def _code_mentions_training(code: CodeType) -> bool:
    inner = (one for one in code.co_consts if isinstance(one, CodeType))
    return "training" in code.co_names or any(map(_code_mentions_training, inner))


def _record_training(
    model: torch.nn.Module,
    args: Any,
    kwargs: Any,
    recorder: Recorder,
    told: Sequence[torch.nn.Module],
    first: Run,
    before: dict[Value, Value],
) -> None:
    """Record a call once more as in training, unless it only does again what the `first` run of it did.

    `before` are the values that inputs and tensors of the model had in that run, by those that they have now.
    Where it fails (targets are missing, for one) what it did up to there is known all the same.
    """
    trace, error = recorder.trace, ""
    start, first_read = len(trace.calls), len(trace.reads)
    lengths = [len(entries) for entries in _recorded(recorder)]
    outputs: tuple[Value, ...] = ()
    try:
        for module in told:
            set_training(module, True)
        outputs = _outputs(model, args, kwargs, recorder)
    except Exception as failure:
        raise_foreign(failure)
        error = f"{type(failure).__name__}: {failure}"
    finally:
        for module in told:
            set_training(module, False)
    same = _counterparts(trace.calls[first.start : first.stop], trace.calls[start:], before, bool(error))
    if same is not None:
        reads = [Read(same.get(one.value, one.value), one.source) for one in trace.reads[first_read:]]
        for entries, length in zip(_recorded(recorder), lengths):
            del entries[length:]
        trace.reads += reads
        outputs = tuple(same.get(value, value) for value in outputs)
    trace.runs.append(Run(start, len(trace.calls), outputs, training=True, error=error))


def _recorded(recorder: Recorder) -> list[list[Any]]:
    """All that grows from call to call."""
    trace = recorder.trace
    return [trace.calls, trace.reads, trace.untracked, trace.seeds, recorder.ledger.conditions]


def _counterparts(
    first: list[Call], again: list[Call], before: dict[Value, Value], failed: bool
) -> dict[Value, Value] | None:
    """For the values of a second run those of the first, if it made the same calls; else ``None``."""
    if len(again) > len(first) or (len(again) < len(first) and not failed):
        return None
    same = dict(before)
    for one, other in zip(first, again):
        if one.code != other.code or len(one.results) != len(other.results):
            return None
        if one.arguments.keys() != other.arguments.keys():
            return None
        if not all(_is_same(a, b, same) for _, a, b in paired(one.arguments, other.arguments)):
            return None
        same.update(zip(other.results, one.results))
    return same


def _is_same(one: Any, other: Any, same: Mapping[Value, Value]) -> bool:
    """Whether parts of two arguments mean the same slots; the strength of a dropout is of no concern."""
    if isinstance(other, Value):
        return same.get(other, other) is one
    if isinstance(one, bool) or not isinstance(one, int) or not isinstance(other, int):
        return not isinstance(one, Value)
    return int(one) == int(other)


# Inputs


def _named_inputs(model: torch.nn.Module, args: Any, kwargs: Any) -> list[tuple[str, Tensor]]:
    """The input tensors by the names of `forward`'s arguments: ``x``, ``xs.0``, ``batch.mask``."""
    try:
        bound = inspect.signature(model.forward).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        bound = {**{str(i): arg for i, arg in enumerate(args)}, **kwargs}
    return [pair for name, item in bound.items() for pair in named_tensors_in(item, name)]


def _without_output(result: Any) -> str:
    """What to do where nothing that the forward returns says which axes must stay."""
    return (
        f"the forward returns a {type(result).__name__} with no tensor in it: "
        "nothing says what must keep its shape\n"
        "let the forward return tensors, or wrap the model in a module that does"
    )
