"""Macro calls, written as the simple calls they stand for.

One call of PyTorch may stand for a whole network: multi-head attention, a stack of recurrent layers.
No single rule describes it well. `LOWERINGS` maps such a callable to a function of the same arguments and
results; while a model is traced it runs in the callable's place, and what *it* calls is recorded.

Sizes are computed from shapes and arguments by plain arithmetic only, so that traced integers keep their
origin, and the assumptions of the original (heads x head size is the embedding width) become equations.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .calls import one_call
from .losses import LOSSES
from .rewrites import REWRITES

# Attention


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


# Recurrent layers. ``input`` is [time, batch, in], or [steps, in] with the ``batch_sizes`` of a packed
# sequence; states are [batch, h]. Results are the output and the final states.


@one_call
def lstm_layer(
    input: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    hx: Tensor,
    cx: Tensor,
    *,
    reverse: bool = False,
    batch_sizes: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """One LSTM layer in one direction: output, hidden state and cell state."""
    return _run(torch.lstm, input, [w_ih, w_hh, b_ih, b_hh], [hx, cx], reverse, batch_sizes)


@one_call
def lstm_proj_layer(
    input: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    w_hr: Tensor,
    hx: Tensor,
    cx: Tensor,
    *,
    reverse: bool = False,
    batch_sizes: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """One LSTM layer in one direction whose hidden state is projected by ``w_hr``."""
    return _run(torch.lstm, input, [w_ih, w_hh, b_ih, b_hh, w_hr], [hx, cx], reverse, batch_sizes)


@one_call
def gru_layer(
    input: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    hx: Tensor,
    *,
    reverse: bool = False,
    batch_sizes: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """One GRU layer in one direction: output and hidden state."""
    return _run(torch.gru, input, [w_ih, w_hh, b_ih, b_hh], [hx], reverse, batch_sizes)


@one_call
def rnn_layer(
    input: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    hx: Tensor,
    *,
    nonlinearity: str = "tanh",
    reverse: bool = False,
    batch_sizes: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """One plain recurrent layer in one direction: output and hidden state."""
    kernel = {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu}[nonlinearity]
    return _run(kernel, input, [w_ih, w_hh, b_ih, b_hh], [hx], reverse, batch_sizes)


def _run(
    kernel: Callable,
    input: Tensor,
    weights: Sequence[Tensor | None],
    states: Sequence[Tensor],
    reverse: bool,
    batch_sizes: Tensor | None,
) -> tuple[Tensor, ...]:
    """Run one layer; the reverse direction is the second half of a run in both."""
    directions = 2 if reverse else 1
    stacked = [state.expand(directions, *state.shape).contiguous() for state in states]
    hx = stacked if kernel is torch.lstm else stacked[0]
    params = [weight for weight in weights if weight is not None] * directions
    options = (params, weights[2] is not None, 1, 0.0, False, reverse)
    # cuDNN would warn that the weights of this one layer are not a buffer of their own. It has one switch for
    # all threads, which is touched where it matters alone.
    with torch.backends.cudnn.flags(enabled=False) if input.is_cuda else nullcontext():
        if batch_sizes is None:
            output, *finals = kernel(input, hx, *options, False)
        else:
            output, *finals = kernel(input, batch_sizes, hx, *options)
    return output.chunk(directions, dim=-1)[-1], *(final[-1] for final in finals)


def _lstm(input: Tensor, *tensors: Tensor | None, **options: Any) -> tuple[Tensor, ...]:
    """Whichever LSTM layer these tensors are for: a projection makes one more."""
    layer = lstm_layer if len(tensors) == 6 else lstm_proj_layer
    return layer(input, *tensors, **options)


def _stack(
    layer_call: Callable,
    input: Tensor,
    hx: Tensor | Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_sizes: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """All layers and directions of a recurrent network, each as one call of ``layer_call``."""
    initial = (hx,) if isinstance(hx, Tensor) else tuple(hx)
    layers = range(num_layers)
    directions = (False, True) if bidirectional else (False,)
    per_cell = len(params) // (len(layers) * len(directions))
    finals: list[Sequence[Tensor]] = []
    for layer in layers:
        outputs = []
        for reverse in directions:
            at = len(finals)
            weights: list[Tensor | None] = list(params[at * per_cell : (at + 1) * per_cell])
            if not has_biases:
                weights[2:2] = [None, None]
            states = [state[at] for state in initial]
            output, *final = layer_call(input, *weights, *states, reverse=reverse, batch_sizes=batch_sizes)
            outputs.append(output)
            finals.append(final)
        input = torch.cat(outputs, dim=-1) if bidirectional else outputs[0]
        if train and dropout > 0 and layer + 1 < len(layers):
            input = F.dropout(input, dropout)
    return input, *(torch.stack(states) for states in zip(*finals, strict=True))


def _recurrent(layer_call: Callable) -> Callable:
    """A replacement for ``torch.lstm`` and its like: layer by layer, direction by direction.

    They have one form for a padded and one for a packed sequence, told apart by where the parameters are.
    """

    def call(*args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        packed = "batch_sizes" in kwargs or (len(args) > 3 and isinstance(args[3], (list, tuple)))
        given = dict(zip(_PACKED if packed else _PADDED, args, strict=False)) | kwargs
        options: dict[str, Any] = {name: given[name] for name in _OPTIONS}
        if packed:
            return _stack(layer_call, given["data"], **options, batch_sizes=given["batch_sizes"])
        if not given["batch_first"]:
            return _stack(layer_call, given["input"], **options)
        output, *states = _stack(layer_call, given["input"].transpose(0, 1), **options)
        return output.transpose(0, 1), *states

    return call


_OPTIONS = ("hx", "params", "has_biases", "num_layers", "dropout", "train", "bidirectional")
_PADDED = ("input", *_OPTIONS, "batch_first")
_PACKED = ("data", "batch_sizes", *_OPTIONS)


# Largest and smallest values. One name stands for three operations.


def _extremum(original: Callable, of_two: Callable, of_all: Callable) -> Callable:
    """A replacement for ``torch.max`` and its like: of two tensors, of a whole one, or along an axis."""

    def call(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        if not args and not kwargs:
            return of_all(input)
        other = args[0] if args else kwargs.get("other")
        return of_two(input, other) if isinstance(other, Tensor) else original(input, *args, **kwargs)

    return call


# Rows that the data tell.


def _where(condition: Tensor, *others: Any, **named: Any) -> Any:
    """``torch.where`` of one tensor finds positions; of three it chooses between the others."""
    return torch.where(condition, *others, **named) if others or named else condition.nonzero(as_tuple=True)


@one_call
def scatter_rows(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """``[*b, c], [*b, c], [*d, c] -> [*b, c]``: rows of source, in order, where the mask is true."""
    return torch.masked_scatter(input, mask, source)


def _masked_scatter(original: Callable) -> Callable:
    """A replacement for ``torch.masked_scatter``: of whole rows, if the mask is the same along them."""

    def call(input: Tensor, mask: Tensor, source: Tensor) -> Tensor:
        same = mask.dim() > 0 and (mask.size(-1) == 1 or mask.stride(-1) == 0)
        rows = same and source.shape[-1:] == input.shape[-1:]
        return (scatter_rows if rows else original)(input, mask, source)

    return call


LOWERINGS: dict[Callable, Callable] = {
    **REWRITES,
    **LOSSES,
    F.multi_head_attention_forward: multi_head_attention_forward,
    F.scaled_dot_product_attention: _attention,
    torch.lstm: _recurrent(_lstm),
    torch.gru: _recurrent(gru_layer),
    torch.rnn_tanh: _recurrent(rnn_layer),
    torch.max: _extremum(torch.max, torch.maximum, torch.amax),
    torch.min: _extremum(torch.min, torch.minimum, torch.amin),
    Tensor.max: _extremum(Tensor.max, torch.maximum, torch.amax),
    Tensor.min: _extremum(Tensor.min, torch.minimum, torch.amin),
    torch.where: _where,
    torch.masked_scatter: _masked_scatter(torch.masked_scatter),
    Tensor.masked_scatter: _masked_scatter(Tensor.masked_scatter),
    torch.rnn_relu: _recurrent(functools.partial(rnn_layer, nonlinearity="relu")),
}
"""What runs, and is recorded, in place of each macro call; same arguments, same results."""
