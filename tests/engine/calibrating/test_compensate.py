"""Correcting the readers of what is pruned: by the mean, and by least squares."""

import copy
import sys
from functools import partial

import pytest
import torch
from prunus import PlanError, VerificationError, engine
from prunus.adapters.apply import carry_out
from prunus.engine.calibrating import calibrate
from prunus.engine.calibrating.compensate import corrections
from prunus.engine.calibrating.readers import readers
from prunus.engine.witnessing.rerun import check_pruned
from torch import nn
from torch.nn import functional as F


class Mlp(nn.Module):
    """One hidden layer."""

    def __init__(self, bias=True):
        super().__init__()
        self.up, self.down = nn.Linear(5, 12), nn.Linear(12, 4, bias=bias)

    def forward(self, x):
        return self.down(self.up(x).relu())


class Conv(nn.Module):
    """Convolutions with and without bias, one transposed, whose outer axes are pruned as well."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 10, 3), nn.Conv2d(10, 8, 3, bias=False)
        self.c, self.d = nn.ConvTranspose2d(8, 6, 2), nn.Conv2d(6, 2, 1)

    def forward(self, x):
        return self.d(self.c(self.b(self.a(x).relu()).relu()).relu())


class Attention(nn.Module):
    """Attention with a packed projection, of which heads are pruned."""

    def __init__(self):
        super().__init__()
        self.embed, self.qkv, self.out = nn.Linear(5, 10), nn.Linear(10, 3 * 4 * 3), nn.Linear(4 * 3, 3)

    def forward(self, x):
        n, length, _ = x.shape
        x = self.qkv(self.embed(x))
        q, k, v = x.view(n, length, 3, -1, 3).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, length, -1))


class Concat(nn.Module):
    """A reader of two groups side by side, and another one of the first."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 9), nn.Linear(5, 7)
        self.both, self.one = nn.Linear(16, 3), nn.Linear(9, 3, bias=False)

    def forward(self, x):
        a, b = self.a(x).relu(), self.b(x).tanh()
        return self.both(torch.cat([a, b], -1)), self.one(a)


class Stream(nn.Module):
    """A residual stream with three readers."""

    def __init__(self):
        super().__init__()
        self.stem, self.up, self.down = nn.Linear(5, 10), nn.Linear(10, 8), nn.Linear(8, 10)
        self.gate, self.head = nn.Linear(10, 3), nn.Linear(10, 3)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.down(self.up(x).relu())
        return self.head(x), self.gate(x)


class Recurrent(nn.Module):
    """Two recurrent layers in both directions."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(5, 8, 2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


def mixed(*shape):
    """Data in which everything depends on a few numbers, so that slots can stand for others."""
    axis = 1 if len(shape) == 4 else -1
    few = torch.randn(*shape).movedim(axis, -1)
    few = few[..., :2] @ torch.randn(2, few.shape[-1]) + 0.1 * few + 0.5
    return few.movedim(-1, axis)


MODELS = {
    "linear": (Mlp, (40, 5)),
    "linear without bias": (lambda: Mlp(bias=False), (40, 5)),
    "convolutions": (Conv, (4, 3, 9, 9)),
    "heads": (Attention, (6, 7, 5)),
    "concat": (Concat, (40, 5)),
    "stream": (Stream, (40, 5)),
    "recurrent": (Recurrent, (6, 7, 5)),
}


def pruned(model, data, kept, how=None):
    """A copy of the model that keeps these slots, corrected by `how` on `data`; and the notes."""
    model = copy.deepcopy(model)
    graph = engine.analyze(model, data[0])
    plan = graph.plan(kept)
    if how is None:
        carry_out(model, plan, check=partial(check_pruned, model, graph))
        return model, []
    found = corrections(graph, plan, data, how)
    carry_out(model, plan, check=partial(check_pruned, model, graph), corrections=found.tensors)
    return model, found.notes


def halves(model, x, number=None):
    """For a group (all of them: None) about half of the slots, at random."""
    groups = engine.analyze(model, x).groups
    chosen = groups if number is None else [groups[number]]
    return {one.name: sorted(torch.randperm(one.size)[: (one.size + 1) // 2].tolist()) for one in chosen}


def error(model, whole, data):
    """The mean squared difference of the outputs."""
    with torch.no_grad():
        return sum(
            F.mse_loss(new, old).item() for x in data for new, old in zip(all_of(model(x)), all_of(whole(x)))
        )


def all_of(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


@pytest.mark.parametrize("bias", [True, False])
def test_least_squares_on_a_linear_reader_is_that_of_torch(bias):
    """With little damping the outputs are those of `torch.linalg.lstsq` on what is kept."""
    model, x = Mlp(bias).double().eval(), torch.randn(60, 5).double()
    kept = [0, 2, 3, 7, 9]
    found, _ = pruned(model, [x], {"up.out": kept}, ("lstsq", 1e-12))
    with torch.no_grad():
        hidden = model.up(x).relu()[:, kept]
        hidden = torch.cat([hidden, torch.ones(60, 1).double()], 1) if bias else hidden
        expected = hidden @ torch.linalg.lstsq(hidden, model(x)).solution
        torch.testing.assert_close(found(x), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("how", ["mean", "lstsq"])
@pytest.mark.parametrize("name", MODELS)
def test_the_error_on_the_data_is_not_larger_than_without(name, how):
    """Pruning one group at a time, each correction brings the outputs at least as near as none."""
    make, shape = MODELS[name]
    model, data = make().eval(), [mixed(*shape), mixed(*shape)]
    better = 0
    for number in range(len(engine.analyze(model, data[0]).groups)):
        kept = halves(model, data[0], number)
        plain, corrected = (pruned(model, data, kept, one)[0] for one in (None, how))
        before, after = (error(one, model, data) for one in (plain, corrected))
        assert after <= before * (1 + 1e-5)
        better += after < 0.95 * before
    assert better or (how == "mean" and name == "linear without bias")


@pytest.mark.parametrize("name", MODELS)
def test_all_groups_together_are_corrected(name):
    """Where readers are pruned as well, on their other axes, least squares still is far nearer."""
    make, shape = MODELS[name]
    model, data = make().eval(), [mixed(*shape), mixed(*shape)]
    kept = halves(model, data[0])
    plain, corrected = (pruned(model, data, kept, how)[0] for how in (None, "lstsq"))
    assert error(corrected, model, data) < 0.8 * error(plain, model, data)


def test_what_is_redundant_is_recovered():
    """Channels that are combinations of others can go without a trace."""
    model = nn.Sequential(nn.Conv2d(3, 10, 3), nn.Conv2d(10, 4, 3, padding=1, bias=False))
    with torch.no_grad():
        mix = torch.randn(4, 6) / 3
        model[0].weight[6:] = torch.einsum("dk,k...->d...", mix, model[0].weight[:6])
        model[0].bias[6:] = mix @ model[0].bias[:6]
    x = torch.randn(8, 3, 9, 9)
    found, _ = pruned(model, [x], {"0.out": range(6)}, ("lstsq", 1e-7))
    with torch.no_grad():
        torch.testing.assert_close(found(x), model(x), rtol=1e-4, atol=1e-4)


def test_the_mean_is_exact_for_what_is_constant():
    """Slots that never change move into the bias, also of a convolution without padding."""
    model = Conv().eval()
    with torch.no_grad():
        model.a.weight[4:], model.c.weight[:, 3:] = 0, 0
        model.a.bias[4:], model.c.bias[3:] = torch.rand(6), torch.rand(3)
    model.b.bias = nn.Parameter(torch.randn(8))
    x = torch.randn(3, 3, 9, 9)
    found, notes = pruned(model, [x], {"a.out": range(4), "c.out": range(3)}, "mean")
    with torch.no_grad():
        torch.testing.assert_close(found(x), model(x))
    assert not notes


def test_a_reader_without_bias_is_told():
    """The mean has nowhere to go; least squares works without."""
    model, x = Mlp(bias=False).eval(), torch.randn(20, 5)
    kept = halves(model, x)
    found, notes = pruned(model, [x], kept, "mean")
    (note,) = notes
    assert note.startswith("not corrected: down.weight, as they have no bias of their own")
    assert "compensate='lstsq' needs none; or give them biases of zeros" in note
    assert error(found, pruned(model, [x], kept)[0], [x]) == 0
    assert pruned(model, [x.repeat(3, 1)], kept, "lstsq")[1] == []


def test_a_weight_with_another_use_is_left_alone():
    """What reads and embeds at once cannot be corrected for the reading only."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(9, 6), nn.Linear(6, 9, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, x):
            return self.head(self.embed(x).relu())

    model, x = Tied().eval(), torch.arange(9)[None]
    kept = {"embed.d": [0, 1, 4]}
    found, notes = pruned(model, [x], kept, "lstsq")
    assert notes == ["not corrected: embed.weight, as torch.nn.functional.embedding uses them as well"]
    assert error(found, pruned(model, [x], kept)[0], [x]) == 0


def test_a_weight_that_reads_twice_is_corrected_for_both():
    """The statistics of both calls add up: it is least squares on all that the weight reads."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = nn.Linear(5, 12), nn.Linear(12, 4)

        def forward(self, x):
            x = self.up(x)
            return self.down(x.relu()), self.down(x.sigmoid() * 3)

    model, x = Twice().double().eval(), torch.randn(60, 5).double()
    kept = [0, 2, 3, 7, 9]
    found, _ = pruned(model, [x], {"up.out": kept}, ("lstsq", 1e-12))
    with torch.no_grad():
        hidden = model.up(x)[:, kept]
        rows = torch.cat([hidden.relu(), hidden.sigmoid() * 3])
        rows = torch.cat([rows, torch.ones(120, 1).double()], 1)
        expected = rows @ torch.linalg.lstsq(rows, torch.cat(model(x))).solution
        torch.testing.assert_close(torch.cat(found(x)), expected, rtol=1e-6, atol=1e-8)


def test_half_precision_stays_half_precision():
    """Numbers are computed in float32 and rounded once."""
    model = Mlp().bfloat16().eval()
    data = [mixed(60, 5).bfloat16()]
    kept = halves(model, data[0])
    found, _ = pruned(model, data, kept, "lstsq")
    assert {one.dtype for one in found.parameters()} == {torch.bfloat16}
    assert error(found, model, data) < 0.5 * error(pruned(model, data, kept)[0], model, data)


def test_slots_that_are_never_anything_do_no_harm():
    """Moments that are zero are no division by zero."""
    model, x = Mlp().eval(), torch.randn(20, 5)
    with torch.no_grad():
        model.up.weight.zero_()
        model.up.bias.fill_(-1)
    found, _ = pruned(model, [x], {"up.out": range(5)}, "lstsq")
    assert error(found, model, [x]) == 0


@pytest.mark.parametrize(
    ("data", "how", "message"),
    [
        ([torch.full((4, 5), float("inf"))], "lstsq", "not finite: down.weight"),
        (None, "mean", "give data="),
        ([torch.randn(4, 5)], ("lstsq", 0.0), "strength in compensate= is a number above zero"),
        ([torch.randn(4, 5)], ("mean", 0.1), "not \\('mean', 0.1\\)"),
        ([torch.randn(4, 5)], "ridge", "not 'ridge'"),
        ([torch.randn(4, 6)], "lstsq", "batch 0 of data= does not run"),
    ],
)
def test_what_cannot_be_done_is_one_clear_error(data, how, message):
    """And the model is bit for bit as it was."""
    model = Mlp()
    before = copy.deepcopy(model.state_dict())
    graph = engine.analyze(model, torch.randn(2, 5))
    with pytest.raises(PlanError, match=message):
        corrections(graph, graph.plan({"up.out": [0, 1]}), data, how)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


def test_a_failed_verification_takes_corrections_back():
    """Weights and biases, sliced or not, are bit for bit as before, and the same objects."""
    model, x = Mlp().eval(), torch.randn(20, 5)
    graph = engine.analyze(model, x)
    plan = graph.plan({"up.out": [0, 1, 5]})
    found = corrections(graph, plan, [x], "lstsq")
    before, objects = copy.deepcopy(model.state_dict()), list(model.parameters())
    graph.example_inputs = torch.randn(2, 7)
    with pytest.raises(VerificationError):
        carry_out(model, plan, check=partial(check_pruned, model, graph), corrections=found.tensors)
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert all(one is other for one, other in zip(model.parameters(), objects))


def test_what_reads_the_same_is_looked_at_once():
    """Query, key and value share one matrix of moments."""
    graph = engine.analyze(nn.TransformerEncoderLayer(12, 3, 16), torch.randn(7, 2, 12))
    places = [one.data for one in readers(graph)]
    assert len(calibrate(graph, [torch.randn(7, 2, 12)], places)) == len(set(places)) < len(places)


def test_how_much_is_measured_in_one_run_decides_nothing(monkeypatch):
    """Products of all pairs of slots are collected in as many runs as they have room for."""
    model, data = Stream(), [mixed(40, 5) for _ in range(4)]
    kept = halves(model, data[0])
    at_once, _ = pruned(model, data, kept, "lstsq")
    monkeypatch.setattr(sys.modules["prunus.engine.calibrating.rounds"], "MEMORY", 1)
    one_by_one, _ = pruned(model, data, kept, "lstsq")
    for one, other in zip(at_once.state_dict().values(), one_by_one.state_dict().values(), strict=True):
        assert torch.equal(one, other)
