"""Runs a model once on example inputs and writes down every operation: `trace`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch

from ..errors import TraceError
from .contents import copied, named_tensors_in, outputs_in
from .fake import Fakes, depends_on_data
from .recorder import Observe, Recorder
from .sizes import Ledger
from .stage import Stage, modules_of, own_attributes
from .undisturbed import undisturbed
from .values import Trace, dotted_name, locate_error

Tensor = torch.Tensor


def trace(
    model: torch.nn.Module,
    example_inputs: Any,
    *,
    fake: bool = False,
    opaque: frozenset[type] = frozenset(),
    lower: Mapping[Callable[..., Any], Callable[..., Any]] | None = None,
    observe: Observe | None = None,
) -> Trace:
    """Run `model` once and record its calls; the model and the inputs are left as they were.

    Parameters
    ----------
    model:
        Any module; it is run in eval mode, without gradients.
    example_inputs:
        A tensor, a tuple of positional arguments, a dict of keyword arguments, or ``(args, kwargs)``.
    fake:
        Run on fake tensors: no memory and no arithmetic; the model may be on the meta device.
    opaque:
        Module and `torch.autograd.Function` classes to record as one call, without looking inside.
    lower:
        Functions to run in the place of a torch callable, so that the simple calls inside are recorded.
    observe:
        Called with every call, as it is recorded, and its real tensors by value; it must change nothing.

    Raises
    ------
    TraceError
        The inputs have no such form, or the forward failed; the message names module and source line.
    """
    args, kwargs = call_arguments(example_inputs)
    fakes = Fakes() if fake else None
    modules = modules_of(model)
    state = _named_tensors(modules)
    _check_initialised(state)
    ledger = Ledger(root=_run.__code__)
    record = Trace(model_name=type(model).__name__, aliases=_aliases(state))
    stand_ins = fakes.stand_ins([tensor for tensor, _, _ in state]) if fakes else {}
    known = {
        id(seen): (seen, kind, names[0])
        for tensor, kind, names in state
        for seen in [stand_ins.get(id(tensor), tensor)]
    }
    recorder = Recorder(record, ledger, known, frozenset(opaque), dict(lower or {}), observe)
    contents = [] if fakes else [tensor for tensor, kind, _ in state if kind != "parameter"]
    copy = fakes.convert if fakes else torch.clone
    with undisturbed(model, contents):
        args, kwargs = copied((args, kwargs), copy)
        stage = Stage(model, ledger, stand_ins)
        try:
            stage.prepare(modules)
            with recorder.following({id(module): path for path, module in reversed(modules)}):
                _run(model, args, kwargs, recorder, fakes)
        except TraceError:
            raise
        except Exception as error:
            raise TraceError(_explain(error, recorder, model, fake)) from error
        finally:
            ledger.open = False
            stage.restore()
    record.attributes = stage.originals
    record.conditions = ledger.conditions
    record.numbers = ledger.numbers
    return record


def call_arguments(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments from any of the forms that example inputs may have."""
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
        "arguments, a dict of keyword arguments, or the pair (args, kwargs)"
    )


def _run(model: torch.nn.Module, args, kwargs, recorder: Recorder, fakes: Fakes | None) -> None:
    """The forward itself. No frame outside this one is taken for the user's code."""
    record = recorder.trace
    recorder.running.append(("", type(model)))
    for name, tensor in _named_inputs(model, args, kwargs):
        record.inputs.append(recorder.new_value(tensor, "input", name))
    with fakes.mode if fakes else nullcontext():
        with recorder:
            result = model(*args, **kwargs)
            outputs = outputs_in(result)  # a generator computes only now
        record.outputs = [recorder.value_of(tensor) for tensor in outputs]
        if not outputs:
            raise TraceError(_without_output(result))
        if _is_parameter_left(recorder):
            _run_as_in_training(model, args, kwargs, recorder)


def _is_parameter_left(recorder: Recorder) -> bool:
    used = recorder.trace.tensors
    return any(kind == "parameter" and name not in used for _, kind, name in recorder.state.values())


def _run_as_in_training(model: torch.nn.Module, args, kwargs, recorder: Recorder) -> None:
    """Parameters that the forward left alone may belong to a branch for training (auxiliary heads).

    Modules that only hold others are told that they train, so that they take it; layers themselves, with
    their statistics and dropout, stay in eval mode. What cannot be run so adds nothing.
    """
    record, ledger = recorder.trace, recorder.ledger
    before = len(record.calls), len(ledger.conditions)
    holders = [one for one in model.modules() if one._modules and not one._parameters]
    try:
        for module in holders:
            module.training = True
        with recorder:
            outputs = outputs_in(model(*args, **kwargs))
        record.training_outputs = [recorder.value_of(tensor) for tensor in outputs]
        record.training_from = before[0]
    except Exception:
        del record.calls[before[0] :], ledger.conditions[before[1] :]
    finally:
        for module in holders:
            module.training = False


def _named_tensors(modules: list[tuple[str, torch.nn.Module]]) -> list[tuple[Tensor, str, list[str]]]:
    """The model's own tensors, each once, with kind and all names in the order of the modules."""
    found: dict[int, tuple[Tensor, str, list[str]]] = {}
    for path, module in modules:
        for kind, tensors in (
            ("parameter", module._parameters),
            ("buffer", module._buffers),
            ("attribute", own_attributes(module)),
        ):
            for name, tensor in tensors.items():
                if isinstance(tensor, Tensor):
                    names = found.setdefault(id(tensor), (tensor, kind, []))[2]
                    names.append(f"{path}.{name}" if path else name)
    return list(found.values())


def _aliases(state: list[tuple[Tensor, str, list[str]]]) -> dict[str, str]:
    return {other: names[0] for _, _, names in state for other in names[1:]}


def _named_inputs(model: torch.nn.Module, args, kwargs) -> list[tuple[str, Tensor]]:
    """The input tensors by the names of `forward`'s arguments: ``x``, ``xs.0``, ``batch.mask``."""
    try:
        bound = inspect.signature(model.forward).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        bound = {**{str(i): arg for i, arg in enumerate(args)}, **kwargs}
    return [pair for name, item in bound.items() for pair in named_tensors_in(item, name)]


def _check_initialised(state: list[tuple[Tensor, str, list[str]]]) -> None:
    for tensor, kind, names in state:
        if kind == "parameter" and torch.nn.parameter.is_lazy(tensor):
            path = names[0].rpartition(".")[0]
            raise TraceError(f"{path or 'the model'} has lazy parameters: run the model once before")


def _without_output(result: Any) -> str:
    """What to do where nothing that the forward returns says which axes must stay."""
    return (
        f"the forward returns a {type(result).__name__} with no tensor in it: "
        "nothing says what must keep its shape\n"
        "let the forward return tensors, or wrap the model in a module that does"
    )


def _explain(error: Exception, recorder: Recorder, model: torch.nn.Module, fake: bool) -> str:
    """What went wrong, in which module and on which line of the user's code, and what to do."""
    path, target = "", None
    if recorder.failure is not None and recorder.failure[0] is error:
        _, path, target = recorder.failure
    source = locate_error(error.__traceback__)
    what = f"{type(error).__name__}: {error}"
    where = f"in {path or type(model).__name__}"
    if target is not None:
        where += f", call {dotted_name(target)}"
    if source is not None:
        where += f"\n  {source}: {source.text}"
    if fake and depends_on_data(error):
        return f"the result of a call depends on data, {where}\n{what}\nanalyse without fake=True"
    return f"the forward failed {where}\n{what}\ncheck example_inputs"
