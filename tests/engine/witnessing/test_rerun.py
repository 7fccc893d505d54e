"""A pruned model that does otherwise than its graph says: it is put back, looked at, and pruned again."""

from copy import deepcopy

import pytest
import torch
from oracle import distance, run
from prunus import engine
from prunus.engine.witnessing.rerun import DoesOtherwise
from torch import nn
from torch.nn import functional as F

X = torch.linspace(-1, 1, 12).view(2, 6)
SGD = {"lr": 0.1, "momentum": 0.9}


class Net(nn.Module):
    """Goes another way where its first layer has just the width that the plan leaves it."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 40), nn.Linear(40, 24), nn.Linear(24, 3)

    def forward(self, x):
        y = self.a(x)
        y = y.tanh() if str(y.shape[1]) == "28" else F.relu(y)
        return self.c(F.relu(self.b(y)))


@pytest.fixture
def told(monkeypatch):
    """What is said by each verification that finds a model doing otherwise."""
    said = []

    class Noted(DoesOtherwise):
        def __init__(self, text):
            super().__init__(text)
            said.append(text)

    monkeypatch.setattr("prunus.engine.witnessing.rerun.DoesOtherwise", Noted)
    return said


def trained():
    """A net and its optimizer after a step."""
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), **SGD)
    model(X).square().sum().backward()
    optimizer.step()
    return model, optimizer


def test_a_way_that_is_taken_only_once_pruned(told, said):
    """The layer that decides keeps its slots; the state of the optimizer is that of what is left."""
    model, optimizer = trained()
    whole, momentum = deepcopy(model), {name: buffer_of(optimizer, one) for name, one in named(model)}
    result = engine.prune(model, example_inputs=X, ratio=0.3, optimizer=optimizer)
    assert told == ["with these sizes the forward takes another way"]
    assert result.plan.groups.keys() == {"b.out"} and model.b.out_features == 17
    said(result.graph.group("a.out").blocked)
    with engine.mask(whole, result.plan):
        assert distance(run(model, X), run(whole, X)) < 1e-5
    kept = result.plan.groups["b.out"]
    for name, parameter in named(model):
        wanted = momentum[name]
        wanted = wanted[kept] if name.startswith("b.") else wanted
        wanted = wanted[:, kept] if name == "c.weight" else wanted
        assert torch.equal(buffer_of(optimizer, parameter), wanted)
    model(X).square().sum().backward()
    optimizer.step()


def test_if_nothing_else_can_go_all_stays(told):
    """Tensors, attributes, gradients and the optimizer's state are bit for bit as they were."""
    model, optimizer = trained()
    before, state = deepcopy(model.state_dict()), deepcopy(optimizer.state_dict())
    gradients = [one.grad.clone() for one in model.parameters()]
    result = engine.prune(model, example_inputs=X, ratio=0.3, only="a.out", optimizer=optimizer)
    assert told and not result.plan.groups and model.a.out_features == 40
    assert all(map(torch.equal, model.state_dict().values(), before.values()))
    assert all(map(torch.equal, [one.grad for one in model.parameters()], gradients))
    for one, other in zip(optimizer.state_dict()["state"].values(), state["state"].values()):
        assert torch.equal(one["momentum_buffer"], other["momentum_buffer"])


def test_only_the_sizes_of_the_plan_have_to_do_as_told(told):
    """What the model does with fewer slots than are kept holds none back, in a dry run neither."""

    class Minded(Net):
        def forward(self, x):
            y = self.a(x)
            if int(str(y.shape[1])) < 28:
                raise RuntimeError("so few are not provided for")
            return self.c(F.relu(self.b(F.relu(y))))

    model = Minded()
    whole, dry = deepcopy(model), engine.prune(model, example_inputs=X, ratio=0.3, dry_run=True)
    result = engine.prune(model, example_inputs=X, ratio=0.3)
    assert not told and model.a.out_features == 28 and model.b.out_features == 17
    assert dry.plan.to_json() == result.plan.to_json()
    with engine.mask(whole, result.plan):
        assert distance(run(model, X), run(whole, X)) < 1e-5


def test_a_dry_run_comes_to_the_same_plan(told):
    """Also where the model does otherwise at its sizes: each finds that out by itself."""
    dry = engine.prune(trained()[0], example_inputs=X, ratio=0.3, dry_run=True)
    result = engine.prune(trained()[0], example_inputs=X, ratio=0.3)
    assert len(told) == 2 and dry.plan.to_json() == result.plan.to_json()


def named(model):
    """The parameters by name."""
    return list(model.named_parameters())


def buffer_of(optimizer, parameter):
    """The momentum of a parameter."""
    return optimizer.state[parameter]["momentum_buffer"].clone()
