"""Parts of a model that the traced forward does not return, or does not reach at all."""

import copy

import oracle
import pytest
import torch
from prunus import engine
from torch import nn
from trap_nets import Net, conv

IMAGE = torch.randn(2, 3, 6, 6)


def in_training(model, x):
    """All outputs of a forward in training mode; the nets here have no dropout and no statistics."""
    model.train()
    with torch.no_grad():
        return list(oracle.leaves(model(x)))


def check_in_training(model, x, plan, effect=1e-4):
    """The oracle for training mode: pruned and masked give the same, which is not what the whole gives."""
    masked, pruned = copy.deepcopy(model), copy.deepcopy(model)
    oracle.mask(masked, plan)
    engine.apply(pruned, plan)
    whole, wanted, found = (in_training(one, x) for one in (model, masked, pruned))
    assert [one.shape for one in found] == [one.shape for one in whole]
    assert oracle.distance(found, wanted) < 1e-5
    assert oracle.distance(whole, wanted) > effect


# Heads for training


def returned_in_training(self, x):
    h = self.a(x).relu()
    u = self.aux(h)
    o = self.head(h)
    return (o, u) if self.training else o


def called_in_training(self, x):
    h = self.a(x).relu() * self.scale
    o = self.head(h)
    return (o, self.aux(h)) if self.training else o


def called_where_targets_are_given(self, x, target=None):
    h = self.a(x).relu()
    o = self.head(h)
    if self.training:
        u = self.aux(h)
        return o, (u - target).square().mean()
    return o


def kept_for_a_loss(self, x):
    h = self.a(x).relu()
    self.seen = self.aux(h)
    return self.head(h)


def thrown_away(self, x):
    h = self.a(x).relu()
    self.aux(h).softmax(1)
    return self.head(h)


def averaged_and_thrown_away(self, x):
    h = self.a(x).relu()
    self.aux(h).square().mean()
    return self.head(h)


HEADS = [
    returned_in_training,
    called_in_training,
    called_where_targets_are_given,
    kept_for_a_loss,
    thrown_away,
    averaged_and_thrown_away,
]


def with_head(forward):
    parts = {"a": conv(3, 8), "aux": conv(8, 6), "head": conv(8, 4)}
    if "scale" in forward.__code__.co_names:
        parts["scale"] = nn.Parameter(torch.rand(8, 1, 1) + 0.5)
    return Net(forward, **parts)


@pytest.mark.parametrize("forward", HEADS)
def test_a_head_that_nobody_returns_keeps_its_classes(forward):
    """Its input goes with the features that it reads, its classes stay, with a reason."""
    model = with_head(forward)
    graph = engine.analyze(model, IMAGE)
    assert graph.group("aux.out").blocked
    plan = graph.choose(0.5)
    assert len(plan.tensors["aux.weight"][1]) == 4 and 0 not in plan.tensors["aux.weight"]
    oracle.check(model, IMAGE, plan)


def test_a_normed_head_that_nobody_returns_keeps_its_classes():
    """A weight norm sums over its own weight, but reads no class."""
    model = with_head(thrown_away)
    model.aux = nn.utils.parametrizations.weight_norm(model.aux)
    graph = engine.analyze(model, IMAGE)
    assert graph.group("aux.out").blocked
    oracle.check(model, IMAGE, graph.choose(0.5))


@pytest.mark.parametrize("forward", [returned_in_training, called_in_training])
def test_a_model_with_a_head_for_training_trains_on(forward):
    """In training mode the pruned model is the masked one as well."""
    model = with_head(forward)
    check_in_training(model, IMAGE, engine.analyze(model, IMAGE).choose(0.5))


def test_a_hidden_layer_of_a_head_for_training_is_pruned():
    """Only its classes end there."""

    def forward(self, x):
        h = self.a(x).relu()
        u = self.last(self.first(h).relu())
        return (self.head(h), u) if self.training else self.head(h)

    model = Net(forward, a=conv(3, 8), first=conv(8, 10), last=conv(10, 6), head=conv(8, 4))
    plan = engine.analyze(model, IMAGE).choose(0.5)
    assert {name: len(kept) for name, kept in plan.groups.items()} == {"a.out": 4, "first.out": 5}
    check_in_training(model, IMAGE, plan)


def test_what_training_adds_up_goes_together():
    """A consistency loss between two branches couples them, though the forward in eval mode does not."""

    def forward(self, x):
        one, other = self.a(x).relu(), self.b(x).relu()
        o = self.head(one) + self.tail(other)
        return (o, (one - other).square().sum()) if self.training else o

    model = Net(forward, a=conv(3, 8), b=conv(3, 8), head=conv(8, 4), tail=conv(8, 4))
    graph = engine.analyze(model, IMAGE)
    assert graph.group("a.out") is graph.group("b.out")
    check_in_training(model, IMAGE, graph.choose(0.5))


def test_a_feature_that_is_looked_at_on_the_way_is_no_end():
    """What weights go on with may be copied, kept, or used for its shape, and shrinks all the same."""

    def forward(self, x):
        h = self.a(x).relu()
        self.seen = h.detach()
        h.float()
        torch.zeros_like(h)[..., 0]
        h.max(0)
        return self.b(h)

    model = Net(forward, a=conv(3, 8), b=conv(8, 4))
    graph = engine.analyze(model, IMAGE)
    assert graph.group("a.out").blocked is None
    oracle.check(model, IMAGE, graph.choose(0.5))


def test_a_free_output_is_free_in_training_as_well():
    """The branch for training does not hold what the user has given up."""

    def forward(self, x):
        h = self.a(x).relu()
        return (h, self.aux(h)) if self.training else h

    model = Net(forward, a=conv(3, 8), aux=conv(8, 6))
    graph = engine.analyze(model, IMAGE, free_outputs=[0])
    assert graph.group("a.out").blocked is None
    assert "in training" in graph.group("aux.out").blocked
