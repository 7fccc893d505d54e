"""Running statistics are estimated anew from data, and nothing else changes."""

from __future__ import annotations

import random
import weakref

import pytest
import tiny_language
import torch
from prunus import PlanError, engine
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


def net() -> nn.Module:
    """Batch norms before and after a dropout; in training, with odd statistics."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Conv2d(8, 6, 3),
        nn.BatchNorm2d(6, momentum=0.3),
        nn.Flatten(),
        nn.Linear(6, 4),
    )
    for module in (model[1], model[5]):
        nn.init.normal_(module.running_mean)
        nn.init.uniform_(module.running_var, 1, 2)
        module.num_batches_tracked += 7
    return model


def batches(count: int = 3) -> list[Tensor]:
    """Some inputs of different distributions."""
    return [torch.randn(6, 3, 5, 5) * (1 + i) + i for i in range(count)]


def moments(values: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The average over batches of mean and unbiased variance of each channel."""
    channels = torch.stack([value.transpose(0, 1).flatten(1) for value in values])
    return channels.mean(2).mean(0), channels.var(2).mean(0)


def test_statistics_are_the_average_over_batches():
    """Also of a norm behind a dropout, which is off: what comes in is what comes in in use."""
    model, data = net(), batches()
    assert engine.recalibrate(model, data) is model
    model.eval()
    with torch.no_grad():
        first = [model[0](x) for x in data]
        # While they are estimated, norms use the statistics of the batch.
        normed = [
            nn.functional.batch_norm(y, None, None, model[1].weight, model[1].bias, True) for y in first
        ]
        second = [model[4](y.relu()) for y in normed]
    for module, values in ((model[1], first), (model[5], second)):
        mean, variance = moments(values)
        torch.testing.assert_close(module.running_mean, mean)
        torch.testing.assert_close(module.running_var, variance)
        assert module.num_batches_tracked == len(data)


def test_nothing_else_changes():
    """Parameters, gradients, flags, momentum, hooks, random numbers; also with data that are random."""
    model = net()
    model[5].eval()
    model[0].weight.requires_grad_(False)
    model(batches(1)[0]).sum().backward()
    parameters = [(p, p.detach().clone(), p.grad, p.requires_grad) for p in model.parameters()]
    flags = [module.training for module in model.modules()]
    buffers = list(model.buffers())
    states = torch.get_rng_state(), random.getstate()
    loader = DataLoader(torch.randn(12, 3, 5, 5, generator=torch.Generator()), batch_size=4, shuffle=True)
    engine.recalibrate(model, loader)
    for parameter, (same, value, grad, wanted) in zip(model.parameters(), parameters, strict=True):
        assert parameter is same and torch.equal(parameter, value) and parameter.requires_grad is wanted
        assert parameter.grad is grad
    assert [module.training for module in model.modules()] == flags
    assert all(a is b for a, b in zip(model.buffers(), buffers, strict=True))
    assert (model[1].momentum, model[5].momentum) == (0.1, 0.3)
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]


class Several(nn.Module):
    """Takes two inputs, and norms both by the same module."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x, y):
        return self.norm(x) + self.norm(y)


@pytest.mark.parametrize("form", ["tuple", "list", "dict", "pair", "generator"])
def test_batches_in_every_form(form):
    """Those that `analyze` takes, and a list, as a loader yields it; each call of a shared norm counts."""
    model = Several()
    data = [(torch.randn(5, 3), torch.randn(5, 3) + 2) for _ in range(2)]
    forms = {
        "tuple": data,
        "list": DataLoader(TensorDataset(*map(torch.cat, zip(*data, strict=True))), batch_size=5),
        "dict": [{"x": x, "y": y} for x, y in data],
        "pair": [((x,), {"y": y}) for x, y in data],
        "generator": (batch for batch in data),
    }
    engine.recalibrate(model, forms[form])
    mean, variance = moments([part.T.unsqueeze(0) for batch in data for part in batch])
    torch.testing.assert_close(model.norm.running_mean, mean)
    torch.testing.assert_close(model.norm.running_var, variance)


def test_instance_norms_with_statistics():
    """They average the moments of every sample."""
    model = nn.Sequential(nn.Conv1d(2, 3, 1), nn.InstanceNorm1d(3, track_running_stats=True))
    data = [torch.randn(4, 2, 9) + i for i in range(3)]
    engine.recalibrate(model, data)
    wanted = torch.stack([model[0](x).mean((0, 2)) for x in data]).mean(0)
    torch.testing.assert_close(model[1].running_mean, wanted)


class Reading(nn.Module):
    """A norm over the features of tokens, of which a padding token has its own."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Embedding(len(tiny_language.WORDS), 4), nn.BatchNorm1d(4)

    def forward(self, input_ids, attention_mask=None, labels=None):
        return self.norm(self.embed(input_ids).transpose(1, 2))


@pytest.mark.parametrize("form", ["texts", "datasets", "rows", "tokens", "labels"])
def test_what_prune_takes_is_taken_here(form):
    """Texts, rows of tokens, a tensor of them, and batches with labels."""
    tokens, model = tiny_language.tokens(4, 16), Reading()
    texts = [tiny_language.text_of(row) for row in tokens]
    forms = {
        "texts": texts,
        "datasets": [{"text": text} for text in texts],
        "rows": [{"input_ids": row.tolist()} for row in tokens],
        "tokens": tokens,
        "labels": [{"input_ids": tokens, "labels": tokens}],
    }
    cut = tiny_language.tokenizer() if form in ("texts", "datasets") else None
    engine.recalibrate(model, forms[form], tokenizer=cut)
    mean, variance = moments([model.embed(tokens).transpose(1, 2)])
    torch.testing.assert_close(model.norm.running_mean, mean)
    torch.testing.assert_close(model.norm.running_var, variance)


def test_batches_are_read_one_at_a_time():
    """As there may be more of them than fit."""
    alive: list[weakref.ref] = []

    def many():
        for _ in range(6):
            batch = torch.randn(6, 3, 5, 5)
            alive.append(weakref.ref(batch))
            yield batch
            del batch
            assert sum(one() is not None for one in alive) <= 2

    assert engine.recalibrate(net(), many())


class Frozen(nn.Module):
    """Has statistics but no momentum; and a norm that it reads without calling it."""

    def __init__(self):
        super().__init__()
        self.norm, self.unused = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
        self.register_buffer("running_mean", torch.ones(3))
        self.register_buffer("running_var", torch.full((3,), 2.0))
        self.register_buffer("seen", torch.zeros(()))
        self.unused.running_mean.fill_(5)

    def forward(self, x):
        self.seen += 1
        return self.norm(x) - self.running_mean + self.unused.running_mean


def test_statistics_that_nothing_estimates_stay():
    """Frozen ones, those of a module that is not called, and buffers of another kind."""
    model = Frozen()
    engine.recalibrate(model, [torch.randn(4, 3)])
    assert model.running_mean.eq(1).all() and model.running_var.eq(2).all() and model.seen == 0
    assert model.unused.running_mean.eq(5).all() and model.unused.running_var.eq(1).all()


def test_a_model_without_statistics_is_returned():
    """The data are not even read."""
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False))
    data = iter([torch.randn(4, 3)])
    assert engine.recalibrate(model, data) is model
    assert next(data) is not None


def broken():
    """Data that fail on the way."""
    yield torch.randn(4, 3, 5, 5)
    raise OSError("the disk is gone")


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([], PlanError, "no batch"),
        (iter(()), PlanError, "no batch"),
        (torch.randn(4, 3, 5, 5), PlanError, r"data=\[batch\]"),
        ({"input": torch.randn(4, 3, 5, 5)}, PlanError, r"data=\[batch\]"),
        ([torch.randn(4, 3, 5, 5), torch.randn(4, 2, 5, 5)], PlanError, "batch 2 of data.*without labels"),
        ([[torch.randn(4, 3, 5, 5), torch.zeros(4)]], PlanError, "batch 1 of data.*without labels"),
        (["images"], PlanError, "texts: give tokenizer="),
        ([{"images": 3}], PlanError, "batch 1 of data"),
        (broken(), OSError, "disk"),
    ],
)
def test_an_error_leaves_the_statistics(data, error, message):
    """One clear message, and the model as before."""
    model = net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(error, match=message):
        engine.recalibrate(model, data)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model[1].momentum == 0.1 and all(module.training for module in model.modules())


def test_recalibration_brings_a_pruned_model_nearer():
    """The reason to have it: statistics of the whole model are not those of the pruned one."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 8, 3), nn.BatchNorm2d(8)
    )
    data = [torch.randn(32, 3, 8, 8) + 1 for _ in range(4)]
    engine.recalibrate(model, data)
    engine.prune(model, example_inputs=data[0], only=["0.out"])
    model.eval()
    with torch.no_grad():
        off = model(data[0]).var((0, 2, 3)).sub(1).abs().mean()
        engine.recalibrate(model, data)
        near = model(data[0]).var((0, 2, 3)).sub(1).abs().mean()
    assert near < 0.1 < off
