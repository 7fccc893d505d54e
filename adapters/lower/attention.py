"""Attention as linears, views, products and one softmax."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..calls import one_call


@one_call
def attention_scores(query: Tensor, key: Tensor) -> Tensor:
    """``[*b, l, d], [*b, s, d] -> [*b, l, s]``: scaled products; the scale depends on the size of d."""
    return torch.matmul(query * query.size(-1) ** -0.5, key.transpose(-2, -1))


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """`torch.nn.functional.multi_head_attention_forward` as linears, views and one attention."""
    batched = query.dim() == 3
    if not batched:
        query, key, value = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
    tgt_len, bsz, embed_dim = query.shape
    if embed_dim != embed_dim_to_check:
        raise AssertionError(f"expected an embedding of {embed_dim_to_check}, got {embed_dim}")
    head_dim = embed_dim // num_heads
    if head_dim * num_heads != embed_dim:
        raise AssertionError(f"an embedding of {embed_dim} does not divide into {num_heads} heads")

    if use_separate_proj_weight:
        weights: Sequence[Any] = (q_proj_weight, k_proj_weight, v_proj_weight)
    else:
        weights = _thirds(in_proj_weight)
    q, k, v = map(F.linear, (query, key, value), weights, _thirds(in_proj_bias))
    if bias_k is not None and bias_v is not None:
        k = torch.cat([k, bias_k.expand(-1, bsz, -1)])
        v = torch.cat([v, bias_v.expand(-1, bsz, -1)])

    def heads(x: Tensor) -> Tensor:
        return x.view(x.size(0), bsz, num_heads, head_dim).permute(1, 2, 0, 3)

    q = heads(q)
    k = heads(k) if static_k is None else static_k.view(bsz, num_heads, -1, head_dim)
    v = heads(v) if static_v is None else static_v.view(bsz, num_heads, -1, head_dim)
    if add_zero_attn:
        k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))

    if is_causal and attn_mask is None:
        raise RuntimeError("is_causal is a hint about attn_mask: give that, too")
    # The original trusts the hint only where it needs the mask for nothing else.
    is_causal = is_causal and key_padding_mask is None and not need_weights
    mask = None if is_causal else _merged_mask(attn_mask, key_padding_mask, bsz, num_heads, query.dtype)
    appended = (bias_k is not None) + add_zero_attn
    if mask is not None and appended:
        mask = F.pad(mask, (0, appended))

    dropout_p = dropout_p if training else 0.0
    if need_weights:
        scores = attention_scores(q, k)
        scores = torch.softmax(scores if mask is None else scores + mask, dim=-1)
        scores = F.dropout(scores, dropout_p) if dropout_p > 0 else scores
        out = torch.matmul(scores, v)
    else:
        out = F.scaled_dot_product_attention(q, k, v, mask, dropout_p, is_causal)
    out = out.permute(2, 0, 1, 3).reshape(tgt_len, bsz, embed_dim)
    out = F.linear(out, out_proj_weight, out_proj_bias)
    out = out if batched else out.squeeze(1)
    if not need_weights:
        return out, None
    scores = scores.mean(dim=1) if average_attn_weights else scores
    return out, scores if batched else scores.squeeze(0)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **options: Any,
) -> Tensor:
    """Causal attention as one with a mask, whose positions have an order."""
    if is_causal and attn_mask is None:
        sizes = query.size(-2), key.size(-2)
        attn_mask = torch.ones(sizes, dtype=torch.bool, device=query.device).tril()
        is_causal = False
    return F.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, **options)


def _thirds(packed: Tensor | None) -> Sequence[Tensor | None]:
    """The query's, the key's and the value's part of a packed projection."""
    return (None, None, None) if packed is None else packed.chunk(3)


def _merged_mask(
    attn_mask: Tensor | None, padding: Tensor | None, bsz: int, num_heads: int, dtype: torch.dtype
) -> Tensor | None:
    """Both masks as one additive mask that broadcasts over ``[batch, heads, target, source]``."""
    attn_mask, padding = _additive(attn_mask, dtype), _additive(padding, dtype)
    if attn_mask is not None and attn_mask.dim() == 3:
        attn_mask = attn_mask.view(bsz, num_heads, attn_mask.size(1), attn_mask.size(2))
    if padding is None:
        return attn_mask
    padding = padding.view(bsz, 1, 1, padding.size(-1))
    return padding if attn_mask is None else attn_mask + padding


def _additive(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A boolean mask (true: look away) as the number that is added to the scores."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, float("-inf"))


ATTENTION: dict[Callable, Callable] = {
    F.multi_head_attention_forward: multi_head_attention_forward,
    F.scaled_dot_product_attention: _attention,
}
