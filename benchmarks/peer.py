"""Torch-Pruning (Fang et al., CVPR 2023) set up for the tasks, as its own documentation and examples do it.

It has to be told the classifier that must keep its outputs, which layers have attention heads, and which
attributes of attention modules to set right afterwards. Its pruner of LSTMs cuts the hidden weights of four
gates as if they were one, and fails. Of PyTorch Geometric's GATConv it prunes nothing: neither as it is, nor
with a customized pruner for its Linear, nor with a plain Linear in its place, with and without ``num_heads``;
with its attention vectors as ``unwrapped_parameters`` it fails.
"""

from __future__ import annotations

import copy

import torch_pruning as tp
from task_data import Inputs
from task_models import head_of
from tasks import macs
from torch import nn

STEPS = 12  # of the bisection
NEAR = 0.001  # of the dense model's multiply-accumulates: no need to look further


def prune_to(
    model: nn.Module, inputs: Inputs, wanted: int, *, heads: str = "inside", scope: str = "local"
) -> nn.Module:
    """A pruned copy of `model` whose multiply-accumulates are as near to `wanted` as any one ratio gets.

    Parameters
    ----------
    heads : ``"inside"`` prunes the size of all attention heads (Torch-Pruning's default), ``"whole"`` heads.
    scope : where slots are ranked: ``"local"`` (its default), ``"global"`` or ``"isomorphic"``.
    """
    dense = macs(model, inputs)
    low, high = 0.0, 1.0
    best, miss = model, dense - wanted
    failure: Exception | None = None
    for _ in range(STEPS):
        ratio = (low + high) / 2
        try:
            pruned = _pruned(model, inputs, ratio, heads, scope)
            found = macs(pruned, inputs)
        except Exception as error:  # whatever it raises: with some ratios only, perhaps
            failure, high = error, ratio
            continue
        if abs(found - wanted) < miss:
            best, miss = pruned, abs(found - wanted)
        if miss < NEAR * dense:
            break
        low, high = (ratio, high) if found > wanted else (low, ratio)
    if best is model:
        raise failure or RuntimeError("no ratio removes anything")
    return best


def _pruned(model: nn.Module, inputs: Inputs, ratio: float, heads: str, scope: str) -> nn.Module:
    model = copy.deepcopy(model)
    num_heads = _heads(model)
    whole = heads == "whole"
    pruner = tp.pruner.BasePruner(
        model,
        inputs,
        forward_fn=lambda model, inputs: model(*inputs),
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        global_pruning=scope != "local",
        isomorphic=scope == "isomorphic",
        ignored_layers=[head_of(model)],
        num_heads=num_heads,
        prune_num_heads=whole,
        prune_head_dims=not whole,
        head_pruning_ratio=ratio if whole else 0.0,
        in_channel_groups={},  # given as they are defaults that it writes into
        out_channel_groups={},
    )
    pruner.step()
    _set_attention_sizes(model, pruner.num_heads)
    return model


def _heads(model: nn.Module) -> dict[nn.Module, int]:
    """The heads of the layers that make queries, keys and values, as Torch-Pruning's examples name them."""
    heads: dict[nn.Module, int] = {}
    for module in model.modules():
        if hasattr(module, "qkv"):
            heads[module.qkv] = module.num_heads
        if hasattr(module, "num_attention_heads") and hasattr(module, "query"):
            layers = (module.query, module.key, module.value)
            heads.update(dict.fromkeys(layers, module.num_attention_heads))
    return heads


def _set_attention_sizes(model: nn.Module, heads: dict[nn.Module, int]) -> None:
    for module in model.modules():
        if hasattr(module, "qkv"):
            module.num_heads = heads[module.qkv]
            module.attn_dim = module.qkv.out_features // 3
            module.head_dim = module.attn_dim // module.num_heads
        if hasattr(module, "num_attention_heads") and hasattr(module, "query"):
            module.num_attention_heads = heads[module.query]
            module.all_head_size = module.query.out_features
            module.attention_head_size = module.all_head_size // module.num_attention_heads
