"""Plans that break a size condition: by hand they name it and sizes nearby, chosen ones keep to it."""

from __future__ import annotations

import re

import oracle
import pytest
import torch
from prunus import engine
from prunus.errors import PlanError
from torch import nn
from trap_nets import Net

X = torch.randn(4, 6)


def net(use, width=24, other=16):
    """Two layers side by side, joined by `use`, and a head for each."""

    def forward(self, x):
        h, k = self.a(x).relu(), self.b(x).relu()
        use(h, k)
        return self.head(h), self.tail(k)

    layers = {"a": nn.Linear(6, width), "b": nn.Linear(6, other)}
    return Net(forward, **layers, head=nn.Linear(width, 3), tail=nn.Linear(other, 3)).eval()


def even(h, k):
    assert h.shape[1] % 4 == 0


def wide(h, k):
    assert h.shape[1] > 9


def wider(h, k):
    assert h.shape[1] > k.shape[1]


def of_one_kind(h, k):
    assert (h.shape[1] + k.shape[1]) % 5 == 0


def rounded(h, k):
    assert h.shape[1] // 5 == 4 or h.shape[1] // 5 == 2


CONDITIONS = {"even": even, "wide": wide, "wider": wider, "of one kind": of_one_kind, "rounded": rounded}


def nearest(graph, kept):
    """The sizes that the error for a plan by hand proposes, by group."""
    with pytest.raises(PlanError) as error:
        graph.plan({name: range(size) for name, size in kept.items()})
    text = str(error.value)
    proposed = re.search(r"nearest to them: ([^)]*)\)", text)
    assert proposed, text
    found = dict(reversed(part.split(" of ")) for part in proposed[1].split(", "))
    return text, {**kept, **{name: int(size) for name, size in found.items()}}


@pytest.mark.parametrize(
    "condition, kept, said, distance",
    [
        ("even", {"a.out": 14}, "% 4", 2),
        ("even", {"a.out": 21}, "% 4", 1),
        ("wide", {"a.out": 6}, "> 9", 4),
        ("wider", {"a.out": 12, "b.out": 14}, ">", 3),
        ("of one kind", {"a.out": 12, "b.out": 16}, "% 5", 2),
    ],
)
def test_a_broken_condition_is_named_with_the_nearest_sizes(condition, kept, said, distance):
    """The error names condition and line, and the sizes that it proposes can be carried out."""
    torch.manual_seed(0)
    model = net(CONDITIONS[condition])
    graph = engine.analyze(model, X)
    text, proposed = nearest(graph, kept)
    assert said in text and "assert" in text and "test_hand_plans.py" in text
    assert sum(abs(proposed[name] - size) for name, size in kept.items()) == distance
    plan = graph.plan({name: range(size) for name, size in proposed.items()})
    oracle.check(model, X, plan)


class Tied(nn.Module):
    """A width and half of it, tied by a view."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 24), nn.Linear(6, 12), nn.Linear(12, 3)

    def forward(self, x):
        h, k = self.a(x), self.b(x)
        return self.head(k.relu()) + h.view(len(x), 2, k.shape[1]).mean((1, 2))[:, None]


def test_a_broken_tie_is_named_with_the_nearest_fraction():
    """Six of twenty-four and all of twelve are no one fraction."""
    graph = engine.analyze(Tied().eval(), X)
    tied = next(group for group in graph.groups if group.tie)
    other = graph.group(tied.tie[0][0])
    text, proposed = nearest(graph, {tied.name: tied.size // 4})
    assert "must keep the same fraction" in text
    assert proposed[other.name] == other.size // 4
    graph.plan({name: range(size) for name, size in proposed.items()})


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("ratio", [0.1, 0.35, 0.5, 0.8])
@pytest.mark.parametrize("criterion", ["magnitude", "random"])
def test_chosen_sizes_keep_every_condition(condition, ratio, criterion):
    """Where the sizes wanted break one, more is kept: no error, and never less than asked."""
    torch.manual_seed(0)
    model = net(CONDITIONS[condition])
    result = engine.prune(model, example_inputs=X, ratio=ratio, criterion=criterion)
    for name, size in (("a.out", 24), ("b.out", 16)):
        assert len(result.plan.groups.get(name, range(size))) >= (1 - ratio) * size - 1e-9
    model(X)


def test_many_conditions_are_all_kept():
    """A hundred and fifty layers, each with a condition of its own."""

    def forward(self, x):
        for layer in self.layers:
            h = layer[0](x).relu()
            assert h.shape[1] % 8 == 0
            x = x + layer[1](h)
        return x

    layers = nn.ModuleList(nn.ModuleList([nn.Linear(6, 40), nn.Linear(40, 6)]) for _ in range(150))
    result = engine.prune(Net(forward, layers=layers).eval(), example_inputs=X, ratio=0.45)
    assert {len(slots) for slots in result.plan.groups.values()} == {24}
    assert len(result.plan.groups) == 150


def test_a_far_condition_is_reached_at_once():
    """Of 4096 slots only multiples of 512 will do: found without trying every size in between."""

    def forward(self, x):
        h = self.a(x)
        assert h.shape[1] % 512 == 0
        return self.head(h)

    model = Net(forward, a=nn.Linear(6, 4096), head=nn.Linear(4096, 3)).eval()
    result = engine.prune(model, example_inputs=X, ratio=0.55)
    assert len(result.plan.groups["a.out"]) == 2048
