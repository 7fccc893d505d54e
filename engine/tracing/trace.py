"""Runs a model on example inputs and writes down every operation: `trace`."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch

from ...adapters.collector import paused
from ...adapters.contents import copied, tensors_in, text_of
from ...adapters.modes import told_modes
from ...adapters.submodules import modules_of, own_attributes
from ...adapters.tensors import can_be_sliced, named_tensors
from ...adapters.undisturbed import undisturbed
from ...adapters.wrappers import check_sliceable
from ...errors import TraceError, raise_foreign, raise_interrupt
from ...torch_private import function_modes
from .alone import alone
from .constants import remember
from .fake import Fakes, depends_on_data
from .following import following
from .forgotten import Entry, EntryKey, are_equal, caches_of, entries_of, places_in, without
from .forwards import calls_of, record_forwards, run_forward
from .recorder import Observe, Recorder
from .size_int import Ledger
from .source import locate_error
from .stand_ins import Stage
from .values import Trace, Value, dotted_name

Tensor = torch.Tensor
MadeTensors = dict[EntryKey, list[Tensor]]


@alone
def trace(
    model: torch.nn.Module,
    example_inputs: Any,
    *,
    fake: bool = False,
    opaque: frozenset[type] = frozenset(),
    lower: Mapping[Callable[..., Any], Callable[..., Any]] | None = None,
    observe: Observe | None = None,
    training: bool = True,
    filed: Iterable[Entry] | None = None,
    plain: bool = False,
) -> Trace:
    """Run `model` and record its calls; the model and the inputs are left as they were.

    Parameters
    ----------
    model:
        Any module; it is run in eval mode, without gradients, and where its code asks for the mode, or
        parameters are left, once more as in training.
    example_inputs:
        A tensor, a tuple of positional arguments, a dict of keyword arguments, or ``(args, kwargs)``; or a
        list of these for several calls, of which each may take another path.
    fake:
        Run on fake tensors: no memory and no arithmetic; the model may be on the meta device.
    opaque:
        Module and `torch.autograd.Function` classes to record as one call, without looking inside.
    lower:
        Functions to run in the place of a torch callable, so that the simple calls inside are recorded.
    observe:
        Called with every call, as it is recorded, the real tensors that it is given, by value, and those that
        it returns; it must change nothing.
    training:
        Look at the branches for training, too.
    plain:
        Leave sizes the plain numbers that they are, so that the model sees nothing but what it sees untraced;
        it is not told where the numbers in arguments come from.
    filed:
        Entries of dicts that an earlier run has filled, and this one is to fill again: ``Trace.filed`` of an
        earlier trace of the model. Where it is not given, they are looked for, which takes further runs.
        Where it is, what the forward leaves behind or unused is not told again: ``made``, ``stored``,
        ``left`` and ``whole`` are empty.

    Raises
    ------
    TraceError
        The inputs have no such form, or the forward failed; the message names module and source line.
    """
    if any(isinstance(mode, Recorder) for mode in function_modes()):
        raise TraceError("the forward that is traced calls prunus itself: do that outside of it")
    if isinstance(model, torch.jit.ScriptModule):
        raise TraceError(
            "the model is compiled by torch.jit, and nobody can follow the sizes in its code\n"
            "prune the Python model, and compile that again"
        )
    if filed is None:  # else it was looked at before
        check_sliceable(model)
    options: dict[str, Any] = {"fake": fake, "opaque": opaque, "lower": dict(lower or {})}
    options |= {"observe": observe, "training": training, "plain": plain, "first": filed is None}
    run = partial(_trace, model, example_inputs, **options)
    with without(filed or ()):
        record, untracked, _ = run()
    if filed is not None:
        return record
    constants = remember(untracked)
    caches = [] if fake else caches_of(model, [*constants, *_attributes_used(model, record)])
    ours = {one.place for cache in caches for one in cache}
    caches.append([one for one in entries_of(constants) if one.place not in ours])
    remade = [cache for cache in caches if cache and _is_remade(cache, run)]
    if not constants and not remade:
        return record
    found = [entry for cache in remade for entry in cache]
    with without(found):
        record, _, _ = run()
    record.filed = found
    return record


def _is_remade(cache: Sequence[Entry], run: Callable[[], tuple[Trace, Any, MadeTensors]]) -> bool:
    """Whether a run that finds these entries missing makes equal ones."""
    try:
        with without(cache) as are_remade:
            _, _, made = run()
            filed_again = are_remade()
        return filed_again and are_equal([one for one in cache if one.is_attribute], made)
    except TraceError as error:
        raise_foreign(error)
        return False


def _trace(
    model: torch.nn.Module,
    example_inputs: Any,
    fake: bool,
    opaque: frozenset[type],
    lower: dict[Callable[..., Any], Callable[..., Any]],
    observe: Observe | None,
    training: bool,
    plain: bool,
    first: bool,
) -> tuple[Trace, list[weakref.ref[Tensor]], MadeTensors]:
    """One trace, the tensors that came up in it and that no call made, and those that attributes got."""
    calls = calls_of(example_inputs)
    fakes = Fakes() if fake else None
    modules = modules_of(model)
    state = _named_tensors(modules)
    _check_initialised(state)
    ledger = Ledger(root=run_forward.__code__)
    record = Trace(model_name=type(model).__name__, aliases=_aliases(state))
    stand_ins = fakes.stand_ins(_tensors_inside(modules, state)) if fakes else {}
    known = {
        id(seen): (seen, kind, names[0])
        for tensor, kind, names in state
        for seen in [stand_ins.get(id(tensor), tensor)]
    }
    filled = _filled(modules) if first else set()
    made: MadeTensors = {}
    recorder = Recorder(record, ledger, known, frozenset(opaque), lower, observe, plain)
    copy = fakes.convert if fakes else torch.clone
    # Each pass of the collector would walk over all that the caller has, and over the trace so far.
    with paused(), undisturbed(model, recorded=True) as before:
        calls = copied(calls, copy)
        stage = Stage(ledger, stand_ins)
        try:
            if not plain:
                stage.prepare(modules)
            paths = {id(module): path for path, module in reversed(modules)}
            with fakes.mode if fakes else nullcontext(), following(recorder, before.modules, paths):
                record_forwards(model, calls, recorder, training)
            if first:
                record.stored = recorder.known_values(before.written())
                record.left = recorder.values_left()
                made = _made(recorder, modules, filled)
        except TraceError:
            raise
        except Exception as error:
            raise_interrupt(error)
            raise TraceError(_explain(error, recorder, model, fake)) from error
        finally:
            ledger.open = False
    if first:
        record.whole = [names[0] for tensor, _, names in state if not can_be_sliced(tensor)]
    record.attributes = stage.originals
    record.conditions = ledger.conditions
    return record, recorder.untracked, made


def _attributes_used(model: torch.nn.Module, record: Trace) -> list[Tensor]:
    used = {name for name, value in record.tensors.items() if value.kind == "attribute"}
    return [tensor for name, tensor in named_tensors(model).items() if name in used] if used else []


def _made(
    recorder: Recorder, modules: list[tuple[str, torch.nn.Module]], before: set[EntryKey]
) -> MadeTensors:
    """The tensors that the forward has left on modules where none was, and that no input decides."""
    found: MadeTensors = {}
    places = ((path, *one) for path, module in modules for one in places_in(module))
    new = [one for one in places if one[1].place not in before]
    from_input = _from_input(recorder.trace) if new else set()
    for path, entry, name, tensors in new:
        values = recorder.known_values(tensors)
        if len(values) == len(tensors) and from_input.isdisjoint(values):
            recorder.trace.made[f"{path}.{name}" if path else name] = values
            found[entry.place] = tensors
    return found


def _from_input(record: Trace) -> set[Value]:
    """The values that depend on an input."""
    found = set(record.inputs)
    for call in record.calls:
        if not found.isdisjoint(call.values):
            found.update(call.results)
    return found


def _filled(modules: list[tuple[str, torch.nn.Module]]) -> set[EntryKey]:
    """Where modules keep tensors before the forward."""
    return {entry.place for _, module in modules for entry, _, _ in places_in(module)}


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


def _tensors_inside(
    modules: list[tuple[str, torch.nn.Module]], state: list[tuple[Tensor, str, list[str]]]
) -> list[Tensor]:
    """The model's own tensors, and those in the containers of its modules."""
    inside = [own_attributes(module) for _, module in modules]
    return [*(tensor for tensor, _, _ in state), *tensors_in(inside)]


def _aliases(state: list[tuple[Tensor, str, list[str]]]) -> dict[str, str]:
    return {other: names[0] for _, _, names in state for other in names[1:]}


def _check_initialised(state: list[tuple[Tensor, str, list[str]]]) -> None:
    for tensor, kind, names in state:
        if kind == "parameter" and torch.nn.parameter.is_lazy(tensor):
            path = names[0].rpartition(".")[0]
            raise TraceError(f"{path or 'the model'} has lazy parameters: run the model once before")


def _explain(error: Exception, recorder: Recorder, model: torch.nn.Module, fake: bool) -> str:
    """What went wrong, in which module and on which line of the user's code, and what to do."""
    path, target = "", None
    if recorder.failure is not None and recorder.failure[0] is error:
        _, path, target = recorder.failure
    source = locate_error(error.__traceback__)
    what = f"{type(error).__name__}: {text_of(error, str)}"
    where = f"in {path or type(model).__name__}"
    if target is not None:
        where += f", call {dotted_name(target)}"
    if source is not None:
        where += f"\n  {source}: {source.text}"
    if fake and depends_on_data(error):
        return f"the result of a call depends on data, {where}\n{what}\nanalyse without fake=True"
    return f"the forward failed {where}\n{what}{told_modes()}\ncheck example_inputs"
