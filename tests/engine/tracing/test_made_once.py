"""What a forward leaves in an attribute for the next one: a model that has run is as one that has not."""

from __future__ import annotations

import copy
import functools

import oracle
import pytest
import torch
from prunus import engine
from prunus.adapters.contents import tensors_in
from prunus.engine import Plan
from torch import nn
from trap_nets import Net

X = torch.randn(2, 7, 6)


class Length(nn.Module):
    """As a causal mask that is made once."""

    def __init__(self):
        super().__init__()
        self.table = None

    def forward(self, h):
        if self.table is None:
            self.table = torch.arange(h.shape[1])[:, None] / 7
        return h + self.table


class Width(Length):
    """Positions of which each slot has its own: they would be other ones for fewer slots."""

    def forward(self, h):
        if self.table is None or self.table.shape != h.shape[1:]:
            self.table = torch.outer(torch.arange(h.shape[1]), torch.arange(h.shape[2])).cos()
        return h + self.table


class Ones(Length):
    """As many as there are slots; beside it a constant, of which there is always one."""

    def __init__(self):
        super().__init__()
        self.constant = torch.full((1,), 3.0)

    def forward(self, h):
        if self.table is None:
            self.table = torch.ones(h.shape[2]) / 2
        return h * self.table * self.constant


class Weight(Length):
    """As a codebook that is kept as rows and their scales."""

    def __init__(self):
        super().__init__()
        self.rows, self.scales = nn.Parameter(torch.randn(8, 8)), nn.Parameter(torch.rand(8) + 1)

    def forward(self, h):
        if self.table is None:
            self.table = (self.rows * self.scales[:, None]).detach()
        return h @ self.table


class Property(nn.Module):
    """Made when it is first asked for."""

    @functools.cached_property
    def table(self):
        return torch.arange(7.0)[:, None] / 7

    def forward(self, h):
        return h + self.table


class Pair(Length):
    """As sines and cosines."""

    def forward(self, h):
        if self.table is None:
            angles = torch.arange(h.shape[1])[:, None] / 7
            self.table = angles.sin(), torch.ones(h.shape[2]) * angles.cos()
        return h * self.table[0] + self.table[1]


class ByDevice(Weight):
    """As the biases of LeViT, by the name of a device."""

    def __init__(self):
        super().__init__()
        self.table = {}

    def forward(self, h):
        if str(h.device) not in self.table:
            self.table[str(h.device)] = self.rows.detach() * self.scales.detach()[:, None]
        return h @ self.table[str(h.device)]


class BySizes(ByDevice):
    """What is filed for other sizes is not found."""

    def forward(self, h):
        key = h.shape[1], h.shape[2], torch.float32
        if key not in self.table:
            self.table[key] = torch.ones(h.shape[1:]) / 2
        return h * self.table[key]


KINDS = [Length, Width, Ones, Weight, Property, Pair, ByDevice, BySizes]
PRUNED = [kind for kind in KINDS if kind is not Width]


def net(kind):
    torch.manual_seed(0)

    def forward(self, x):
        return self.head(self.made(self.a(x)).relu())

    return Net(forward, a=nn.Linear(6, 8), made=kind(), head=nn.Linear(8, 3)).eval()


def after_a_run(kind):
    model = net(kind)
    with torch.no_grad():
        model(X)
    assert made(model)
    return model


def made(model):
    """The ids of the tensors that it has left."""
    return [id(one) for one in tensors_in(vars(model.made).get("table"))]


def told(model):
    """What the graph says of each group."""
    graph = engine.analyze(model, X)
    assert not graph.unknown
    everything = [*graph.groups, *graph.blocked]
    return [(one.name, one.size, one.exact, one.producers, str(one.blocked)) for one in everything]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_has_run_before_has_the_same_graph(kind):
    """And keeps what it has made."""
    model = after_a_run(kind)
    before = made(model)
    assert told(model) == told(net(kind))
    assert made(model) == before


@pytest.mark.parametrize("kind", PRUNED)
@pytest.mark.parametrize("start", [net, after_a_run])
def test_a_plan_fits_before_and_after_a_run(kind, start):
    """Whenever it was made, and whenever it is carried out."""
    plan = engine.analyze(start(kind), X).choose(ratio=0.5, criterion="random")
    assert len(plan.groups["a.out"]) == 4
    assert Plan.from_json(plan.to_json()) == plan
    ran, fresh = (engine.apply(one(kind), plan) for one in (after_a_run, net))
    with torch.no_grad():
        assert torch.equal(ran(X), fresh(X))
    oracle.check(net(kind), X, plan)


@pytest.mark.parametrize("kind", PRUNED)
def test_pruning_twice_after_runs(kind):
    """`prune` verifies, and what it makes then is left to the next run."""
    model = after_a_run(kind)
    first = engine.prune(model, example_inputs=X)
    with torch.no_grad():
        model(X)
    second = engine.prune(model, example_inputs=X)
    assert model.a.weight.shape[0] == 2
    both = engine.apply(after_a_run(kind), first.plan.followed_by(second.plan))
    with torch.no_grad():
        assert torch.equal(model(X), both(X))


@pytest.mark.parametrize("kind", PRUNED)
@pytest.mark.parametrize("start", [net, after_a_run])
def test_a_file_is_loaded_before_and_after_a_run(kind, start, tmp_path):
    """It has nothing of what the forward makes."""
    model = after_a_run(kind)
    result = engine.prune(model, example_inputs=X)
    with torch.no_grad():
        wanted = model(X)
        result.save(tmp_path / "pruned.safetensors")
        assert torch.equal(engine.load(tmp_path / "pruned.safetensors", start(kind))(X), wanted)


@pytest.mark.parametrize("kind", PRUNED)
def test_a_masked_model_makes_it_again(kind):
    """And has what it had afterwards."""
    model = after_a_run(kind)
    before = made(model)
    plan = engine.analyze(model, X).choose(ratio=0.5, exact_only=True)
    pruned = engine.apply(copy.deepcopy(model), plan)
    with torch.no_grad():
        with engine.mask(model, plan):
            masked = model(X)
        assert torch.allclose(pruned(X), masked, atol=1e-6)
    assert made(model) == before


def test_a_failed_call_keeps_what_was_made():
    """All or nothing."""
    model = after_a_run(Ones)
    before = made(model)
    plan = engine.analyze(model, X).choose(ratio=0.5)
    plan.attributes["no.such"] = 3
    with pytest.raises(Exception, match=r"no\.such"):
        engine.apply(model, plan)
    assert made(model) == before


def test_what_inputs_decide_is_none_of_the_models():
    """A state that goes on from call to call is data."""

    def forward(self, x):
        h = self.a(x)
        self.state = h if self.state is None else (h + self.state) / 2
        return self.head(self.state)

    model = Net(forward, a=nn.Linear(6, 8), head=nn.Linear(8, 3), state=None).eval()
    plan = engine.analyze(model, X).choose(ratio=0.5)
    assert plan.made == [] and "state" not in plan.tensors
