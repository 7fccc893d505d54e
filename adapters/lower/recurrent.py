"""Recurrent layers: a network of several, in one or both directions, is one call for each.

``input`` is [time, batch, in], or [steps, in] with the ``batch_sizes`` of a packed sequence; states are
[batch, h]. Results are the output and the final states.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..calls import one_call


@one_call
def lstm_layer(
    input: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None, b_hh: Tensor | None,
    hx: Tensor, cx: Tensor, *, reverse: bool = False, batch_sizes: Tensor | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """One LSTM layer in one direction: output, hidden state and cell state."""
    return _run(torch.lstm, input, [w_ih, w_hh, b_ih, b_hh], [hx, cx], reverse, batch_sizes)


@one_call
def lstm_proj_layer(
    input: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None, b_hh: Tensor | None,
    w_hr: Tensor, hx: Tensor, cx: Tensor, *, reverse: bool = False, batch_sizes: Tensor | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """One LSTM layer in one direction whose hidden state is projected by ``w_hr``."""
    return _run(torch.lstm, input, [w_ih, w_hh, b_ih, b_hh, w_hr], [hx, cx], reverse, batch_sizes)


@one_call
def gru_layer(
    input: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None, b_hh: Tensor | None,
    hx: Tensor, *, reverse: bool = False, batch_sizes: Tensor | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """One GRU layer in one direction: output and hidden state."""
    return _run(torch.gru, input, [w_ih, w_hh, b_ih, b_hh], [hx], reverse, batch_sizes)


@one_call
def rnn_layer(
    input: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None, b_hh: Tensor | None,
    hx: Tensor, *, nonlinearity: str = "tanh", reverse: bool = False, batch_sizes: Tensor | None = None,
) -> tuple[Tensor, ...]:  # fmt: skip
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

RECURRENT: dict[Callable, Callable] = {
    torch.lstm: _recurrent(_lstm),
    torch.gru: _recurrent(gru_layer),
    torch.rnn_tanh: _recurrent(rnn_layer),
    torch.rnn_relu: _recurrent(functools.partial(rnn_layer, nonlinearity="relu")),
}
