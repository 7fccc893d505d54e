"""Who else holds the tensors of a model: wrappers, shards, offloading, quantisers.

They are recognised before anything runs, by the names of their classes and by what they leave on modules and
parameters, so that none of their packages has to be imported or installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch
from attrs import frozen
from torch import Tensor, nn

from ..errors import PlanError, PrunusError, TraceError
from ..torch_private import FakeTensor
from .submodules import each_module
from .tensors import can_be_sliced, is_ordinary


@frozen
class Holder:
    """One way of holding tensors that cannot be sliced there: how it is told, what it is, what to do.

    Of the signs, ``modules`` and ``tensors`` are classes by package and name (``torch.DTensor``: wherever in
    torch it is), or whole packages; ``marks`` are names of attributes, and of parameters and buffers. `holds`
    is asked with the module or tensor, or what the attribute is, where the sign alone does not tell.
    """

    is_: str
    do: str
    modules: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    holds: Callable[[Any], bool] = lambda sign: True
    error: type[PrunusError] = TraceError


def _offloads(hook: Any) -> bool:
    return any(getattr(one, "offload", False) for one in (hook, *getattr(hook, "hooks", ())))


def _offloads_groups(registry: Any) -> bool:
    return "group_offloading" in getattr(registry, "hooks", ())


def _is_packed(value: Any) -> bool:
    return isinstance(value, Tensor) and not (value.is_floating_point() or value.is_complex())


def _replays_a_graph(forward: Any) -> bool:
    return getattr(forward, "__qualname__", "").startswith("make_graphed_callables.")


_BEFORE_QUANTISED = "prune the model as it was before that, then quantise the pruned one"
_AS_ORDINARY = "prune the model with ordinary parameters, and turn them into these afterwards"
_BEFORE_SHARDED = "prune the whole model, with one plan on every rank, and shard the pruned one"


def _keeps_packed(quantizer: Any) -> bool:
    """Whether weights stay packed: those of a GGUF file may have been unpacked when they were loaded."""
    if quantizer is None:
        return False
    config = getattr(quantizer, "quantization_config", None)
    unpacked = getattr(config, "dequantize", False) or not getattr(quantizer, "supported", True)
    return not (unpacked and getattr(config, "quant_method", None) == "gguf")


HOLDERS = (
    Holder(
        "wrapped in DistributedDataParallel, which would go on with the old sizes",
        "prune its .module, and wrap that again: engine.prune(ddp.module, ...), then "
        "ddp = DistributedDataParallel(ddp.module)",
        modules=(
            *(f"{package}.DistributedDataParallel" for package in ("torch", "apex", "megatron")),
            "fairscale.ShardedDataParallel",
        ),
        error=PlanError,
    ),
    Holder(
        "made data parallel by `replicate`, which would go on with the old sizes",
        "prune the model before `replicate`",
        modules=("torch.DDP", "torch.ReplicateModule"),
        error=PlanError,
    ),
    Holder(
        "wrapped in DataParallel, which runs it on several devices at once",
        "prune its .module: DataParallel copies that for every forward",
        modules=("torch.DataParallel",),
        holds=lambda module: len(module.device_ids) > 1,
        error=PlanError,
    ),
    Holder(
        "sharded by FSDP",
        _BEFORE_SHARDED,
        modules=("torch.FullyShardedDataParallel", "torch.FSDPModule", "fairscale.FullyShardedDataParallel"),
        marks=("_is_fsdp_managed_module", "_fsdp_flattened"),
        holds=bool,
    ),
    Holder(
        "partitioned by DeepSpeed",
        "prune the whole model before deepspeed.initialize, without zero.Init, and initialise with that",
        modules=("deepspeed.DeepSpeedEngine",),
        marks=("ds_id", "ds_tensor", "_hp_mapping"),
    ),
    Holder("spread over ranks as a DTensor", _BEFORE_SHARDED, tensors=("torch.DTensor",)),
    Holder(
        "one rank's part of a tensor-parallel layer",
        _BEFORE_SHARDED,
        marks=("tensor_model_parallel",),
        holds=bool,
    ),
    Holder(
        "offloaded by accelerate, which brings its weights when it runs",
        "load the model whole, onto one device without device_map=, or take the hooks off by "
        "accelerate.hooks.remove_hook_from_module(model, recurse=True)",
        marks=("_hf_hook",),
        holds=_offloads,
    ),
    Holder(
        "offloaded by diffusers, which brings its weights when it runs",
        "prune the model before apply_group_offloading",
        marks=("_diffusers_hook",),
        holds=_offloads_groups,
    ),
    Holder(
        "replayed as a CUDA graph, which goes on with the old weights",
        "prune the model before make_graphed_callables",
        marks=("forward",),
        holds=_replays_a_graph,
        error=PlanError,
    ),
    Holder(
        "kept in two precisions by DistributedDataParallel",
        "prune the model before it is wrapped with mixed_precision=",
        marks=("_mp_param",),
        error=PlanError,
    ),
    Holder(
        "stepped in backward by an optimizer, which would hear nothing more of it",
        "prune the model before _apply_optimizer_in_backward",
        marks=("_in_backward_optimizers",),
        error=PlanError,
    ),
    Holder("quantised by torchao", _BEFORE_QUANTISED, tensors=("torchao",)),
    Holder(
        "quantised by bitsandbytes",
        _BEFORE_QUANTISED,
        tensors=("bitsandbytes.Int8Params", "bitsandbytes.Params4bit"),
    ),
    Holder(
        "quantised by transformers",
        "prune the model as it was before that, or model.dequantize(), then quantise the pruned one",
        marks=("hf_quantizer",),
        holds=_keeps_packed,
    ),
    Holder(
        "quantised: its weights are packed into whole numbers",
        _BEFORE_QUANTISED,
        marks=("qweight", "weight_packed", "W_q"),
        holds=_is_packed,
    ),
    Holder(
        "quantised by torch: its weights are packed",
        _BEFORE_QUANTISED,
        modules=(
            "torch.WeightedQuantizedModule",
            "torch.LinearPackedParams",
            "torch.EmbeddingPackedParams",
            "torch.PackedParameter",
        ),
    ),
    Holder(
        "prepared for quantisation, and watches what it is given",
        "prune the model before that, then prepare the pruned one",
        modules=(
            *("torch.ObserverBase", "torch.FakeQuantizeBase"),
            *("torchao.ObserverBase", "torchao.FakeQuantizeBase", "torchao.FakeQuantizerBase"),
        ),
    ),
    Holder(
        "packed by mkldnn",
        "prune the model before to_mkldnn",
        modules=tuple(f"torch.Mkldnn{layer}" for layer in ("Linear", "BatchNorm", "Prelu"))
        + tuple(f"torch.MkldnnConv{dim}d" for dim in (1, 2, 3)),
    ),
    Holder(
        "a program that torch.export has made",
        "prune the model that was exported, or program.module(), and export that again",
        modules=("torch.ExportedProgram",),
    ),
)

_MODULES = {sign: holder for holder in HOLDERS for sign in holder.modules}
_TENSORS = {sign: holder for holder in HOLDERS for sign in holder.tensors}
_MARKS = {mark: holder for holder in HOLDERS for mark in holder.marks}
_MARKED = _MARKS.keys()


def check_sliceable(model: Any) -> None:
    """Raise what `HOLDERS` say, unless `model` is a module that has its tensors to itself.

    The message names the module or parameter, what holds it, and what to do.
    """
    if not isinstance(model, nn.Module):
        _check_class("this", model, type(model))
        raise TraceError(f"a model is a torch.nn.Module, and this is a {type(model).__name__}")
    for path, module in each_module(model):
        _check_class(path or "the model", module, type(module))
        if isinstance(module, torch.jit.ScriptModule):
            continue
        _check_marks(path or "the model", vars(module))
        for tensors in (module._parameters, module._buffers):
            _check_marks(path or "the model", tensors)
            for name, tensor in tensors.items():
                if tensor is not None and (vars(tensor) or not is_ordinary(tensor)):
                    _check_tensor(f"{path}.{name}" if path else name, tensor)


def _check_tensor(name: str, tensor: Tensor) -> None:
    kind = type(tensor)
    _check_class(name, tensor, kind)
    _check_marks(name, vars(tensor))
    what = None
    if kind.__torch_dispatch__ is not Tensor.__torch_dispatch__ and not isinstance(tensor, FakeTensor):
        what = f"a {kind.__name__}, whose operations nobody else can follow"
    elif tensor.is_nested:
        what = "a nested tensor, which has no shape"
    elif tensor.requires_grad and not can_be_sliced(tensor):
        what = f"of {tensor.layout}, which cannot be sliced"
    if what is not None:
        raise TraceError(f"{name} is {what}\n{_AS_ORDINARY}")


def _check_class(name: str, thing: Any, kind: type) -> None:
    holder = _of_class(kind)
    if holder is not None and holder.holds(thing):
        raise holder.error(f"{name} is {holder.is_}\n{holder.do}")


@lru_cache(maxsize=4096)
def _of_class(kind: type) -> Holder | None:
    known = _TENSORS if issubclass(kind, Tensor) else _MODULES
    for base in kind.__mro__:
        package = base.__module__.partition(".")[0]
        for sign in (f"{package}.{base.__name__}", package):
            if sign in known:
                return known[sign]
    return None


def _check_marks(name: str, attributes: Mapping[str, Any]) -> None:
    if _MARKED.isdisjoint(attributes):
        return
    for mark in _MARKED & attributes.keys():
        holder = _MARKS[mark]
        if holder.holds(attributes[mark]):
            raise holder.error(f"{name} is {holder.is_}\n{holder.do}")
