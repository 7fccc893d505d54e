"""What calibration data tells of the values that are read, and the criteria that are made of it."""

import copy
from contextlib import contextmanager

import pytest
import torch
from prunus import PlanError, engine
from prunus.engine.calibrating import Statistics, calibrate
from prunus.engine.calibrating.readers import readers
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    """Two convolutions, and two layers that read what is left after pooling."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 12, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 10, 3, padding=1, bias=False)
        self.head = nn.Linear(10, 5)

    def forward(self, x):
        x = self.conv2(self.norm(self.conv1(x)).relu()).relu()
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    """An embedding, packed attention with a shortcut, and a recurrent layer."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 12)
        self.attend = nn.MultiheadAttention(12, 3, batch_first=True)
        self.rnn = nn.LSTM(12, 7, bidirectional=True, batch_first=True)
        self.head = nn.Linear(14, 4)

    def forward(self, x):
        x = self.embed(x)
        x = x + self.attend(x, x, x)[0]
        return self.head(self.rnn(x)[0])


X = torch.randn(2, 3, 8, 8)
BATCHES = [torch.randn(size, 3, 8, 8) * 2 + 1 for size in (1, 4, 3)]


@contextmanager
def inputs_of(model, name):
    """What the module of that name is given, call by call."""
    seen = []
    hook = model.get_submodule(name).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    try:
        yield seen
    finally:
        hook.remove()


def all_places(graph):
    return [reader.data for reader in readers(graph)]


def test_the_readers_of_a_model_are_the_weights_that_sum_over_what_they_are_given():
    """Packed projections, recurrent layers and convolutions are readers, with the biases that they add."""
    found = {str(one.weight): one.bias for one in readers(engine.analyze(Net(), X))}
    assert found == {"conv1.weight[1]": "conv1.bias", "conv2.weight[1]": None, "head.weight[1]": "head.bias"}
    found = {str(one.weight): one.bias for one in readers(engine.analyze(Attention(), torch.arange(4)[None]))}
    assert found == {
        "attend.in_proj_weight[1]": "attend.in_proj_bias",
        "attend.out_proj.weight[1]": "attend.out_proj.bias",
        "rnn.weight_ih_l0[1]": "rnn.bias_ih_l0",
        "rnn.weight_ih_l0_reverse[1]": "rnn.bias_ih_l0_reverse",
        "head.weight[1]": "head.bias",
    }


def test_a_weight_that_reads_only_a_part_of_an_axis_is_no_reader():
    """In a grouped convolution the axis of the weight is not that of the data."""
    graph = engine.analyze(
        nn.Sequential(nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 3, groups=2)), torch.randn(1, 4, 6, 6)
    )
    assert [str(one.weight) for one in readers(graph)] == ["0.weight[1]"]


@pytest.mark.parametrize("name", ["conv1", "conv2", "head"])
def test_statistics_are_those_of_what_hooks_see(name):
    """Means, variances and products over batches of different sizes equal a direct computation."""
    model = Net().eval()
    graph = engine.analyze(model, X)
    with inputs_of(model, name) as seen:
        for batch in BATCHES:
            model(batch)
    rows = torch.cat([one.movedim(1, -1).flatten(0, -2) for one in seen]).double()
    place = next(one.data for one in readers(graph) if one.weight.tensor == f"{name}.weight")
    found = calibrate(graph, BATCHES, [place], products=True)[place]
    assert found.count == len(rows)
    torch.testing.assert_close(found.mean.double(), rows.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        (found.scatter / found.count).double(), rows.T.cov(correction=0), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(found.second.double(), rows.square().mean(0), rtol=1e-4, atol=1e-4)
    plain = calibrate(graph, BATCHES, [place])[place]
    torch.testing.assert_close(plain.variance, found.variance)


def test_statistics_do_not_lose_digits_to_a_large_mean():
    """A variance of one around a mean of a thousand is still found in float32."""
    parts = [torch.randn(500, 3) + 1000 + n for n in range(6)]
    found = sum((Statistics.of(part, 1) for part in parts[1:]), Statistics.of(parts[0], 1))
    expected = torch.cat(parts).double().var(0, correction=0)
    torch.testing.assert_close(found.variance.double(), expected, rtol=1e-4, atol=0)


def test_half_precision_is_accumulated_in_float32():
    """A sum of many small numbers does not stop growing."""
    found = Statistics.of(torch.full((100_000, 2), 0.1, dtype=torch.bfloat16), 1)
    assert found.mean.dtype == torch.float32
    torch.testing.assert_close(found.mean, torch.full((2,), 0.1), rtol=1e-2, atol=0)


def test_calibration_leaves_the_model_as_it_was():
    """Buffers, modes, gradients and random numbers are those of before."""
    model = Net().train()
    graph = engine.analyze(model, X)
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    calibrate(graph, BATCHES, all_places(graph))
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())
    assert model.training and torch.equal(random, torch.get_rng_state())


def test_batches_may_have_other_lengths():
    """A sequence model is calibrated on sequences of any length; padding counts like everything else."""
    graph = engine.analyze(Attention(), torch.arange(5)[None])
    found = calibrate(graph, [torch.arange(5)[None], torch.arange(9).view(1, 9)], all_places(graph))
    assert {one.count for one in found.values()} == {5 + 9}


class Branching(nn.Module):
    """Takes another path for large numbers, and uses a weight twice for negative ones."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        large, negative = float(x.abs().max()) > 100, float(x.max()) < 0
        x = self.a(x)
        x = x.relu().relu() if large else x.relu()
        return self.b(x) + self.b(x) if negative else self.b(x)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "give data="),
        ([], "no batch"),
        (torch.randn(4, 6), "list of batches"),
        ([torch.randn(4, 6), torch.randn(4, 7)], "batch 1 of data= does not run"),
        ([(torch.randn(4, 6), torch.zeros(4))], "without labels"),
        (
            [torch.randn(4, 6), -torch.rand(4, 6)],
            "for batch 1 of data= the model makes other calls .* example_inputs=",
        ),
    ],
)
def test_unusable_data_is_one_clear_error(data, message):
    """What is wrong with the data, and which batch it is."""
    graph = engine.analyze(Branching(), torch.randn(2, 6))
    with pytest.raises(PlanError, match=f"(?s){message}"):
        calibrate(graph, data, all_places(graph))


def test_what_is_between_the_weights_may_differ():
    """What a weight reads on another path is what it reads: only the calls of weights are compared."""
    model = Branching()
    graph, large = engine.analyze(model, torch.randn(2, 6)), torch.rand(4, 6) * 1e6
    with inputs_of(model, "b") as seen:
        model(large)
    found = calibrate(graph, [large], all_places(graph))
    assert any(len(one.mean) == 8 and torch.equal(one.mean, seen[0].mean(0)) for one in found.values())


def scores(model, inputs, data, criterion):
    """The scores of every group, by name."""
    from prunus.engine.scoring.criteria import criterion_of
    from prunus.engine.scoring.slot_tensors import Tensors

    graph = engine.analyze(model, inputs)
    tensors, score = Tensors(graph, data), criterion_of(criterion)
    return {group.name: score(group, tensors) for group in graph.groups}


@pytest.mark.parametrize("criterion", ["wanda", "flap", "variance"])
def test_scores_are_those_of_the_papers(criterion):
    """They equal the formula on what a hook sees, up to their mean."""
    model = Net().eval()
    with inputs_of(model, "conv2") as seen:
        model(BATCHES[1])
    rows, weight = seen[0].movedim(1, -1).flatten(0, -2), model.conv2.weight.detach().movedim(1, 0).flatten(1)
    expected = {
        "wanda": weight.abs().sum(1) * rows.norm(dim=0),
        "flap": weight.square().sum(1) * rows.var(0, correction=0),
        "variance": rows.var(0, correction=0),
    }[criterion]
    found = scores(model, X, [BATCHES[1]], criterion)["conv1.out"]
    torch.testing.assert_close(found, expected / expected.mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("criterion", ["wanda", "flap", "variance"])
def test_slots_that_never_differ_from_zero_come_last(criterion):
    """A head whose values are nothing, and a unit that is always off, have the lowest scores."""
    model = Attention()
    with torch.no_grad():
        model.attend.in_proj_weight[24 + 4 : 24 + 8] = 0  # the values of head 1
        model.attend.in_proj_bias[24 + 4 : 24 + 8] = 0
    found = scores(model, torch.arange(6)[None], [torch.randint(11, (4, 6))], criterion)
    (heads,) = (one for one in found.values() if len(one) == 3)
    assert heads.argmin() == 1
    net = Net()
    with torch.no_grad():
        net.norm.weight[3], net.norm.bias[3] = 0, -1
    assert scores(net, X, BATCHES, criterion)["conv1.out"].argmin() == 3


@pytest.mark.parametrize("criterion", ["wanda", "flap", "variance"])
def test_a_residual_stream_is_scored_by_all_its_readers(criterion):
    """A slot that one of two readers needs is kept, though the other one does not look at it."""

    class Stream(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 8)
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            x = self.stem(x)
            return self.head(x + self.down(F.relu(self.up(x))))

    model = Stream()
    with torch.no_grad():
        for layer in (model.up, model.head, model.down, model.stem):
            layer.weight.fill_(1.0).mul_(1 + 0.01 * torch.randn_like(layer.weight))
        model.up.weight[:, :2] = 0
        model.head.weight[:, 1:3] = 0
    found = scores(model, torch.randn(2, 4), [torch.randn(50, 4)], criterion)["stem.out"]
    assert found.mean() == pytest.approx(1)
    if criterion != "variance":
        assert found.argmin() == 1


def test_a_group_that_no_weight_reads_is_scored_by_its_magnitude():
    """The channels of a depthwise convolution that are pooled away are only known by their weights."""
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3, groups=6))

    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = model

        def forward(self, x):
            return self.body(x).sum(1)

    wanda, magnitude = (scores(Pooled(), X, BATCHES, criterion) for criterion in ("wanda", "magnitude"))
    assert wanda.keys() == magnitude.keys() and wanda
    assert all(torch.equal(wanda[name], magnitude[name]) for name in wanda)


def test_a_criterion_that_needs_data_says_so():
    """Without data= the error says to give some."""
    with pytest.raises(PlanError, match="give data="):
        scores(Net(), X, None, "wanda")
