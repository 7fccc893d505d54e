"""Saves a pruned model with its plan, without pickle, and makes of a fresh model what was saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ..errors import CheckpointError, PlanError, VerificationError, shown
from ..files import expect_writable
from .apply import all_or_nothing
from .archive import Archive, PathLike, read, write
from .modules import ChangedAttribute, Emptied
from .outdated import Outdated
from .plan import Plan, expect_plan
from .settings import attribute_of
from .strides import is_dense
from .submodules import each_module, modules_of
from .tensors import Replaced, check_fits, memory_order, named_tensors
from .torch_caches import ForgottenShapes, ForgottenValues
from .wrappers import check_sliceable


def save(path: PathLike, model: nn.Module, plan: Plan) -> None:
    """Write `model`, on which `plan` has been carried out, to a safetensors file.

    The file has the values of the model as they are now (it may have been trained since), in their own
    dtypes: parameters, persistent buffers, and what else the plan has changed: other buffers, and tensors
    that are plain attributes. Shared tensors are in it once. It appears as a whole or not at all.

    Parameters
    ----------
    path : where to; a file that is there is replaced, also where a link leads to it, with its permissions.
    model : the pruned model; it is not changed.
    plan : from the model as `load` will meet it to this one: after several prunings that is
        ``first.followed_by(second)``.

    Raises
    ------
    CheckpointError
        The model is not what the plan makes, it has state that safetensors cannot hold, or the file cannot
        be written.
    """
    expect_plan(plan)
    expect_writable(path, CheckpointError)  # before a model is fetched from its devices
    write(path, _archive(model, plan))


@torch.inference_mode(False)
@torch.no_grad()
def load(path: PathLike, model: nn.Module) -> nn.Module:
    """Make of a fresh `model`, in place, what was saved at `path`, bit for bit; returns it.

    Nothing is traced, and no code comes out of the file: only values, and sizes of the model. Parameters stay
    the same objects, so that optimizers and ties keep them, with their ``requires_grad``; their gradients are
    dropped. The values come to the device of the tensors that they replace, in the dtype and memory format
    that they were saved in.

    Parameters
    ----------
    path : a file that `save` wrote.
    model : a model of the class and configuration of the one that was pruned, not pruned itself.

    Raises
    ------
    CheckpointError
        The file is missing, damaged, or none of these, or `model` is another one; it is left as it was.
    """
    check_sliceable(model)
    archive = read(path)
    try:
        steps, shapes = _steps(archive, model)
        return all_or_nothing(steps, lambda: model, shapes)
    except (PlanError, VerificationError) as error:
        raise CheckpointError(
            f"{shown(path)} does not fit this model: {error}; "
            "load it into a fresh model of the class and sizes of the one that was pruned"
        ) from error


def _state(model: nn.Module, plan: Plan) -> dict[str, Tensor]:
    """What a file holds of a model, by name; tied tensors under every name."""
    tensors = named_tensors(model)
    changed = {id(tensors[name]) for name in plan.sliced if name in tensors}
    lasting = {
        f"{path}.{name}" if path else name
        for path, module in modules_of(model)
        for name in [*module._parameters, *(module._buffers.keys() - module._non_persistent_buffers_set)]
    }
    state = {name: tensor for name, tensor in tensors.items() if name in lasting or id(tensor) in changed}
    for name, tensor in state.items():
        if is_lazy(tensor) or tensor.is_meta:
            raise CheckpointError(
                f"{name} has no values yet: run the model once, or use to_empty() if it is on the meta device"
            )
    return state


def _identity(tensor: Tensor) -> Any:
    """What tied tensors have in common: the object, or the place of all of their values."""
    if tensor.numel() == 0 or tensor.layout is not torch.strided:
        return id(tensor)
    return tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


# --- from a model ------------------------------------------------------------------------------------------


def _archive(model: nn.Module, plan: Plan) -> Archive:
    for path, module in each_module(model):
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            raise CheckpointError(
                f"{path or 'the model'} has extra state, which safetensors cannot hold: save its state_dict"
            )
    state = _state(model, plan)
    check_carried_out(model, plan, state)
    firsts: dict[Any, str] = {}
    for name, tensor in state.items():
        firsts.setdefault(_identity(tensor), name)
    own = {name: state[name].detach() for name in firsts.values()}
    tied = {name: firsts[_identity(tensor)] for name, tensor in state.items() if name not in own}
    # Strides decide in which order a convolution adds up, and so the last bits of what it computes.
    strides = {name: list(tensor.stride()) for name, tensor in own.items() if _is_in_other_order(tensor)}
    return Archive(plan, {name: _plain(name, tensor) for name, tensor in own.items()}, tied, strides)


def check_carried_out(model: nn.Module, plan: Plan, state: Mapping[str, Tensor]) -> None:
    """Raise `CheckpointError` unless the sizes of a model, of these tensors of it, are those of the plan."""
    try:
        for name, axes in plan.sliced.items():
            if name not in state or any(state[name].shape[axis] != len(kept) for axis, kept in axes.items()):
                raise PlanError(f"{name} is not of the size that the plan makes")
        for name, value in plan.attributes.items():
            if attribute_of(model, name) != value:
                raise PlanError(f"{name} is not {value}")
    except (PlanError, LookupError) as error:
        raise CheckpointError(
            f"this model is not what the plan makes: {error}; carry it out first, and after several prunings "
            "save with first.followed_by(second)"
        ) from error


def _is_in_other_order(tensor: Tensor) -> bool:
    ordered = memory_order(tensor) == list(range(tensor.dim()))
    return not ordered and is_dense(tensor.shape, tensor.stride())


def _plain(name: str, tensor: Tensor) -> Tensor:
    """The values on the CPU and in order, in memory of their own, as safetensors wants them."""
    try:
        if tensor.dtype in (torch.complex32, torch.complex128):
            raise TypeError(f"safetensors has no {tensor.dtype}")
        value = tensor.cpu().resolve_conj().resolve_neg().contiguous()
        return value if value.untyped_storage().nbytes() == value.nbytes else value.clone()
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(f"{name} cannot be stored: {error}; convert it before saving") from error


# --- to a model --------------------------------------------------------------------------------------------


def _steps(archive: Archive, model: nn.Module) -> tuple[list[Any], ForgottenShapes]:
    """What makes a fresh model the saved one, and the last step; raises `PlanError` if it is another."""
    plan = archive.plan
    state = _state(model, plan)
    check_fits(named_tensors(model), plan.sliced, plan.shapes)
    _check_same(archive, state)
    steps: list[Any] = [
        ChangedAttribute(model, name, number, plan.before.get(name))
        for name, number in plan.attributes.items()
    ]
    steps += [Emptied(model, name) for name in plan.made]
    data: dict[str, Tensor] = {}
    changed: list[Tensor] = []
    for tensor, names in _by_object(state):
        first = archive.tied.get(names[0], names[0])
        if first not in data:
            value = archive.tensors[first]
            data[first] = _copied(value, archive.strides.get(first) or value.stride(), tensor.device)
        steps.append(_loaded(tensor, data[first]))
        if (tensor.shape, tensor.dtype) != (data[first].shape, data[first].dtype):
            changed.append(tensor)
    shapes = ForgottenShapes(changed)
    return [*steps, ForgottenValues(), Outdated(changed, shapes)], shapes


def _check_same(archive: Archive, state: Mapping[str, Tensor]) -> None:
    """Raise `PlanError` unless the names, ties and, after the plan, the shapes are those of the file."""
    names = archive.tensors.keys() | archive.tied.keys()
    for missing in sorted(names - state.keys()):
        raise PlanError(f"the file has {shown(missing)}, the model has not")
    for extra in sorted(state.keys() - names):
        raise PlanError(f"the model has {extra}, the file has not")
    for name, first in archive.tied.items():
        if _identity(state[name]) != _identity(state[first]):
            raise PlanError(f"{name} is tied to {first} in the file, but not in the model; tie them first")
    for tensor, same in _by_object(state):
        firsts = sorted({archive.tied.get(name, name) for name in same})
        if len(firsts) > 1:
            raise PlanError(f"{' and '.join(firsts)} are tied in the model, but not in the file")
        axes = {axis: kept for name in same for axis, kept in archive.plan.tensors.get(name, {}).items()}
        after = tuple(len(axes.get(axis, range(size))) for axis, size in enumerate(tensor.shape))
        value = archive.tensors[firsts[0]]
        if tuple(value.shape) != after:
            raise PlanError(
                f"{same[0]} is of shape {tuple(value.shape)} in the file, here it would be of {after}"
            )
        if _kind(value) != _kind(tensor):
            raise PlanError(f"{same[0]} is of {value.dtype} in the file, here of {tensor.dtype}")


def _kind(tensor: Tensor) -> str:
    """Fractions, of whatever precision, or something else; a parameter is not made of whole numbers."""
    return "fractions" if tensor.dtype.is_floating_point else str(tensor.dtype)


def _by_object(state: Mapping[str, Tensor]) -> list[tuple[Tensor, list[str]]]:
    """Each tensor once, with all its names."""
    found: dict[int, tuple[Tensor, list[str]]] = {}
    for name, tensor in state.items():
        found.setdefault(id(tensor), (tensor, []))[1].append(name)
    return list(found.values())


def _copied(value: Tensor, strides: Sequence[int], device: torch.device) -> Tensor:
    """In memory of torch's own, which is aligned for fast kernels; the file's is as it happens to lie."""
    return torch.empty_strided(value.shape, strides, dtype=value.dtype, device=device).copy_(value)


def _loaded(tensor: Tensor, value: Tensor) -> Replaced:
    """The step that gives a tensor this value; its gradient is dropped."""
    return Replaced(tensor, lambda _: value, lambda _: None)
