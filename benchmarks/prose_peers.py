"""Other ways to prune a language model, after their papers: what `perplexity` compares prunus with.

Each takes the whole model's `Seen` and a fraction of all parameters to remove, and prunes a copy in place so
that this many of those outside of the embeddings are gone, as nearly as its steps allow.
"""

from __future__ import annotations

from typing import Any

import torch
from prose_models import Block, Moments, Seen, blocks_of, inside, layers_of, total
from torch import Tensor, nn


def _unit_cost(block: Block) -> int:
    """The parameters of a hidden unit."""
    rows = sum(one.in_features + (one.bias is not None) for one in block.makers)
    return rows + block.reader.out_features


# Hidden units alone: one number for all blocks


def hidden_units(
    model: nn.Module, seen: Seen, removed: float, score: Any, ridge: float | None = None
) -> None:
    """Keep the hidden units of the highest scores in each block; with `ridge` correct what reads them."""
    blocks = blocks_of(model)
    cost = sum(map(_unit_cost, blocks))
    kept = blocks[0].reader.in_features - round(removed * total(seen.model) / cost)
    for number, block in enumerate(blocks):
        keep = score(seen, number, block).topk(kept).indices.sort().values
        weight = block.reader.weight[:, keep]
        if ridge is not None:
            gram = seen.hidden[number].products.double()
            inner = gram[keep][:, keep]
            inner.diagonal().add_(ridge * inner.diagonal().mean())
            weight = (block.reader.weight.double() @ torch.linalg.solve(inner, gram[keep]).T).float()
        _keep_hidden(block, keep, weight)


def _keep_hidden(block: Block, keep: Tensor, weight: Tensor) -> None:
    for maker in block.makers:
        _rows(maker, keep)
    block.reader.weight, block.reader.in_features = nn.Parameter(weight.contiguous()), len(keep)


def _rows(layer: nn.Linear, keep: Tensor) -> None:
    layer.weight, layer.out_features = nn.Parameter(layer.weight[keep].contiguous()), len(keep)
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias[keep])


def random_scores(seen: Seen, number: int, block: Block) -> Tensor:
    return torch.rand(block.reader.in_features, generator=torch.Generator().manual_seed(number))


def magnitude(seen: Seen, number: int, block: Block) -> Tensor:
    """The norm of all weights of a unit."""
    parts = [one.weight.square().sum(1) for one in block.makers] + [block.reader.weight.square().sum(0)]
    return sum(parts[1:], parts[0])


def wanda(seen: Seen, number: int, block: Block) -> Tensor:
    """Sun et al., ICLR 2024, summed over a unit as in An et al., AAAI 2024."""
    return block.reader.weight.abs().sum(0) * seen.hidden[number].second.sqrt()


# Heads as well


def _head_size(model: nn.Module) -> int:
    config = model.config
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _head_groups(model: nn.Module, block: Block) -> tuple[int, int]:
    """How many keys' heads there are, and how many entries of the output's input belong to each."""
    groups = block.keys[0].out_features // _head_size(model)
    return groups, block.output.in_features // groups


def _head_cost(model: nn.Module, block: Block) -> int:
    groups, _ = _head_groups(model, block)
    return sum(one.weight.numel() for one in (block.queries, *block.keys, block.output)) // groups


def _keep_heads(model: nn.Module, block: Block, keep: Tensor) -> None:
    _, times = _head_groups(model, block)
    size = _head_size(model)
    queries = (keep[:, None] * times + torch.arange(times)).flatten()
    keys = (keep[:, None] * size + torch.arange(size)).flatten()
    _rows(block.queries, queries)
    for one in block.keys:
        _rows(one, keys)
    weight = block.output.weight[:, queries]
    block.output.weight, block.output.in_features = nn.Parameter(weight.contiguous()), len(queries)


def wanda_sp(model: nn.Module, seen: Seen, removed: float) -> None:
    """Wanda-sp of An et al., AAAI 2024: the same fraction of heads and of hidden units in every block."""
    blocks = blocks_of(model)
    groups, times = _head_groups(model, blocks[0])
    width = blocks[0].reader.in_features
    wanted = removed * total(seen.model)
    whole = sum(_unit_cost(b) * width + _head_cost(model, b) * groups for b in blocks)
    heads = min(groups - 1, round(groups * wanted / whole))
    rest = wanted - heads * sum(_head_cost(model, block) for block in blocks)
    units = round(rest / sum(map(_unit_cost, blocks)))
    for number, block in enumerate(blocks):
        scores = block.output.weight.abs().sum(0) * seen.heads[number].second.sqrt()
        keep = scores.view(groups, times).sum(1).topk(groups - heads).indices.sort().values
        _keep_heads(model, block, keep)
        keep = wanda(seen, number, block).topk(width - units).indices.sort().values
        _keep_hidden(block, keep, block.reader.weight[:, keep])


def flap(model: nn.Module, seen: Seen, removed: float) -> None:
    """An et al., AAAI 2024: fluctuation, standardised in each module, one ranking; means go into biases."""
    blocks = blocks_of(model)
    groups, times = _head_groups(model, blocks[0])
    scores, costs = [], []
    for number, block in enumerate(blocks):
        units = block.reader.weight.square().sum(0) * seen.hidden[number].variance
        heads = block.output.weight.square().sum(0) * seen.heads[number].variance
        for one, cost in (
            (heads.view(groups, times).mean(1), _head_cost(model, block)),
            (units, _unit_cost(block)),
        ):
            scores.append((one - one.mean()) / one.std())
            costs.append(torch.full_like(one, cost))
    gone = _cheapest(torch.cat(scores), torch.cat(costs), removed * total(seen.model))
    for number, (block, heads, units) in enumerate(
        zip(blocks, *(gone.split([len(one) for one in scores])[part::2] for part in (0, 1)))
    ):
        heads[0], units[0] = heads[0] & ~heads.all(), units[0] & ~units.all()
        _add_means(block.output, heads.repeat_interleave(times), seen.heads[number])
        _add_means(block.reader, units, seen.hidden[number])
        _keep_heads(model, block, (~heads).nonzero().flatten())
        keep = (~units).nonzero().flatten()
        _keep_hidden(block, keep, block.reader.weight[:, keep])


def _cheapest(scores: Tensor, costs: Tensor, wanted: float) -> Tensor:
    """Which go: the lowest scores until their costs add up."""
    order = scores.argsort()
    gone = torch.zeros(len(scores), dtype=torch.bool)
    gone[order[costs[order].double().cumsum(0) <= wanted]] = True
    return gone


def _add_means(layer: nn.Linear, gone: Tensor, moments: Moments) -> None:
    step = layer.weight[:, gone] @ moments.mean[gone]
    layer.bias = nn.Parameter(step if layer.bias is None else layer.bias + step)


# Whole blocks


def short_gpt(model: nn.Module, seen: Seen, removed: float) -> None:
    """Men et al., 2024: the blocks go whose output is most like their input."""
    layers = layers_of(model)
    one = sum(parameter.numel() for parameter in layers[0].parameters())
    gone = round(removed * total(seen.model) / one)
    order = sorted(range(len(layers)), key=lambda number: seen.influence[number])
    kept = nn.ModuleList(layer for number, layer in enumerate(layers) if number not in order[:gone])
    owner = model.model if hasattr(model, "model") else model.encoder
    setattr(owner, "layers" if hasattr(model, "model") else "layer", kept)
    model.config.num_hidden_layers = len(kept)


# Directions


class _Norm(nn.Module):
    """A root-mean-square norm of the directions that are left; its weight is folded into what reads it."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.size, self.eps = size, eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().sum(-1, keepdim=True) / self.size + self.eps)


def slice_gpt(model: nn.Module, seen: Seen, removed: float) -> None:
    """Ashkboos et al., ICLR 2024, with one rotation for all blocks, so that no adapters are needed."""
    inner, size = model.model, model.config.hidden_size
    kept = size - round(size * removed * total(seen.model) / inside(seen.model))
    readers = [
        (layer.input_layernorm, [b.queries, *b.keys]) for layer, b in zip(inner.layers, blocks_of(model))
    ]
    readers += [
        (layer.post_attention_layernorm, b.makers) for layer, b in zip(inner.layers, blocks_of(model))
    ]
    read = [*seen.attended, *seen.normed]
    covariance = sum(one.products / norm.weight.outer(norm.weight) for one, (norm, _) in zip(read, readers))
    basis = torch.linalg.eigh(covariance.double()).eigenvectors.flip(1)[:, :kept].float()
    head = model.lm_head.weight * inner.norm.weight
    for norm, linear in readers:
        for one in linear:
            one.weight = nn.Parameter((one.weight * norm.weight) @ basis)
    for block in blocks_of(model):
        for one in (block.output, block.reader):
            one.weight = nn.Parameter(basis.T @ one.weight)
    inner.embed_tokens.weight = nn.Parameter(inner.embed_tokens.weight @ basis)
    model.lm_head.weight = nn.Parameter(head @ basis)
    eps = model.config.rms_norm_eps
    for layer in inner.layers:
        layer.input_layernorm, layer.post_attention_layernorm = _Norm(size, eps), _Norm(size, eps)
    inner.norm = _Norm(size, eps)
