"""The lowered calls equal the macro calls they stand for, and show a mode what is inside."""

import copy
import itertools

import pytest
import torch
from prunus.adapters import lower
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.overrides import TorchFunctionMode


class Lowering(TorchFunctionMode):
    """Runs the lowering in place of each macro call, as the tracer does; remembers what was called."""

    def __init__(self):
        super().__init__()
        self.calls = []
        self.running = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in lower.LOWERINGS and func not in self.running:
            self.running.append(func)
            with self:
                result = lower.LOWERINGS[func](*args, **(kwargs or {}))
            self.running.remove(func)
            return result
        self.calls.append(func)
        return func(*args, **(kwargs or {}))

    def count(self, func):
        return self.calls.count(func)


def flat(value):
    """The tensors of nested results, packed sequences included."""
    if isinstance(value, PackedSequence):
        return [value.data, value.batch_sizes]
    if isinstance(value, tuple):
        return [tensor for part in value for tensor in flat(part)]
    return [value]


def same_lowered(model, *args, **kwargs):
    """Run ``model`` plainly and lowered, with the fused paths off; results agree; return the mode."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            expected = flat(model(*args, **kwargs))
            with Lowering() as mode:
                found = flat(model(*args, **kwargs))
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
    assert [type(t) for t in found] == [type(t) for t in expected]
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert one.dtype == other.dtype
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6, equal_nan=True)
    return mode


def randomized(model):
    """Biases and the like start at zero, where mistakes do not show."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# Attention

OPTIONS = [
    {},
    {"bias": False},
    {"add_bias_kv": True},
    {"add_zero_attn": True},
    {"add_bias_kv": True, "add_zero_attn": True, "kdim": 6},
    {"kdim": 6, "vdim": 10},
    {"vdim": 10, "bias": False},
    {"batch_first": True},
]
MASKS = ["none", "causal", "float", "heads", "padding", "float padding", "causal padding"]


def masks(name, batch, heads, source):
    """Keyword arguments for one kind of mask; three targets."""
    causal = torch.ones(3, source, dtype=torch.bool).triu(1)
    ignored = torch.arange(source).expand(*batch, source) >= source - 1
    return {
        "none": {},
        "causal": {"attn_mask": causal, "is_causal": True},
        "float": {"attn_mask": torch.randn(3, source)},
        "heads": {"attn_mask": torch.randn(heads * (batch[0] if batch else 1), 3, source)},
        "padding": {"key_padding_mask": ignored},
        "float padding": {"key_padding_mask": torch.randn(*batch, source)},
        "causal padding": {"attn_mask": causal, "key_padding_mask": ignored, "is_causal": True},
    }[name]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_attention_equals(options, mask):
    """Every way to build and call `nn.MultiheadAttention`, batched and not."""
    model = randomized(nn.MultiheadAttention(8, 2, **options))
    for batch, need_weights, average in itertools.product([(), (2,)], [True, False], [True, False]):
        place = 0 if options.get("batch_first") else 1

        def tensor(length, width, batch=batch, place=place):
            x = torch.randn(length, *batch, width)
            return x.transpose(0, 1) if batch and place == 0 else x

        same_lowered(
            model,
            tensor(3, 8),
            tensor(4, options.get("kdim", 8)),
            tensor(4, options.get("vdim", 8)),
            need_weights=need_weights,
            average_attn_weights=average,
            **masks(mask, batch, 2, 4),
        )


def test_self_attention_is_three_linears():
    """The packed projection is cut before it is used, and nothing is hidden."""
    model = randomized(nn.MultiheadAttention(8, 2))
    x = torch.randn(5, 2, 8)
    mode = same_lowered(model, x, x, x)
    assert mode.count(torch.nn.functional.linear) == 4
    assert mode.count(torch.Tensor.chunk) == 2
    assert mode.count(lower.attention_scores) == 1
    assert mode.count(torch.softmax) == 1


def test_static_keys():
    """Given keys and values take the place of the projected ones."""
    x, weight = torch.randn(3, 2, 8), torch.randn(24, 8)
    static = torch.randn(4, 5, 4), torch.randn(4, 5, 4)
    call = torch.nn.functional.multi_head_attention_forward

    def model(x):
        return call(
            x, x, x, 8, 2, weight, None, None, None, False, 0.0, torch.eye(8), None,
            static_k=static[0], static_v=static[1],
        )  # fmt: skip

    same_lowered(model, x)


def test_training_drops_attention_weights():
    """Dropout is applied in training, where half of the weights vanish."""
    model = randomized(nn.MultiheadAttention(8, 2, dropout=0.5)).train()
    x = torch.randn(5, 2, 8)
    for need_weights in (True, False):
        with Lowering():
            torch.manual_seed(1)
            first = model(x, x, x, need_weights=need_weights)[0]
            second = model(x, x, x, need_weights=need_weights)[0]
        assert not torch.allclose(first, second)


def test_wrong_width_is_refused():
    """The original's assumption that the query has the embedding's width is kept."""
    model = nn.MultiheadAttention(8, 2)
    model.embed_dim = 6
    x = torch.randn(5, 2, 8)
    with Lowering(), pytest.raises(AssertionError, match="expected an embedding of 6"):
        model(x, x, x)


def test_transformer():
    """A whole `nn.Transformer`, whose layers call the same function."""
    model = randomized(nn.Transformer(8, 2, 1, 1, 16, batch_first=True))
    source, target = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
    mask = nn.Transformer.generate_square_subsequent_mask(3)
    same_lowered(model, source, target, tgt_mask=mask, tgt_is_causal=True)


# Recurrent layers

KINDS = {
    "lstm": nn.LSTM,
    "projected lstm": lambda *a, **k: nn.LSTM(*a, proj_size=3, **k),
    "gru": nn.GRU,
    "tanh": nn.RNN,
    "relu": lambda *a, **k: nn.RNN(*a, nonlinearity="relu", **k),
}
LAYER = {
    "lstm": lower.lstm_layer,
    "projected lstm": lower.lstm_proj_layer,
    "gru": lower.gru_layer,
    "tanh": lower.rnn_layer,
    "relu": lower.rnn_layer,
}


def states(model, *batch):
    """Random initial states, as the module takes them."""
    rows = model.num_layers * (2 if model.bidirectional else 1)
    hidden = torch.randn(rows, *batch, getattr(model, "proj_size", 0) or model.hidden_size)
    return (hidden, torch.randn(rows, *batch, model.hidden_size)) if model.mode == "LSTM" else hidden


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_recurrent_equals(kind, layers, bidirectional, bias):
    """Padded, unbatched and packed input, with and without initial states."""
    build = KINDS[kind]
    for batch_first in (False, True):
        model = build(5, 4, layers, bias=bias, bidirectional=bidirectional, batch_first=batch_first)
        model = randomized(model)
        x = torch.randn(3, 3, 5)
        packed = pack_sequence([torch.randn(n, 5) for n in (2, 6, 1)], enforce_sorted=False)
        mode = same_lowered(model, x)
        assert mode.count(LAYER[kind]) == layers * (2 if bidirectional else 1)
        same_lowered(model, x, states(model, 3))
        same_lowered(model, torch.randn(6, 5))
        same_lowered(model, torch.randn(6, 5), states(model))
        same_lowered(model, packed)
        same_lowered(model, packed, states(model, 3))


def test_dropout_between_layers():
    """Dropout acts in training only, and not after the last layer."""
    model = nn.LSTM(4, 4, 2, dropout=1.0)
    x = torch.randn(3, 2, 4)
    changed = copy.deepcopy(x) + 1
    with Lowering(), torch.no_grad():
        torch.testing.assert_close(model.train()(x)[0], model(changed)[0])
        assert not torch.allclose(model.eval()(x)[0], model(changed)[0])


def test_layers_read_rows_of_the_initial_state():
    """Layers share the initial state, which is what gives them one hidden size."""
    model = randomized(nn.LSTM(5, 4, 2))
    mode = same_lowered(model, torch.randn(3, 2, 5))
    assert mode.count(torch.Tensor.__getitem__) == 4
    assert mode.count(torch.stack) == 2


def test_a_layer_is_one_call():
    """A mode sees the layer itself and nothing of what computes it."""
    with Lowering() as mode:
        lower.gru_layer(
            torch.randn(3, 2, 5), torch.randn(12, 5), torch.randn(12, 4), None, None, torch.randn(2, 4)
        )
    assert [call for call in mode.calls if call is not torch.randn] == [lower.gru_layer]


def test_cells_are_left_alone():
    """A cell is one call already."""
    for cell, call in [
        (nn.LSTMCell, torch.lstm_cell),
        (nn.GRUCell, torch.gru_cell),
        (nn.RNNCell, torch.rnn_tanh_cell),
    ]:
        assert same_lowered(cell(5, 4), torch.randn(2, 5)).count(call) == 1


def test_fake_tensors():
    """Lowered calls run without data, for models larger than the machine."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), torch.no_grad():
        attention, lstm = nn.MultiheadAttention(8, 2).eval(), nn.LSTM(8, 4, 2, bidirectional=True)
        x = torch.randn(5, 2, 8)
        with Lowering():
            assert attention(x, x, x)[0].shape == (5, 2, 8)
            assert lstm(x)[0].shape == (5, 2, 8)
