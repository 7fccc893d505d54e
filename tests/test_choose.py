"""How much goes of which group: ratios, budgets, selection, and what stands in the way."""

import pytest
import torch
from prunus import PlanError, engine
from prunus.engine.cost import macs, parameters
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


class Block(nn.Module):
    """Two convolutions around a residual stream, and a classifier."""

    def __init__(self, width=40, hidden=60):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.conv1 = nn.Conv2d(width, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, width, 1)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.stem(x).relu()
        x = x + self.conv2(self.conv1(x).relu())
        return self.head(x.mean((2, 3)))


X = torch.randn(2, 3, 8, 8)


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture
def graph():
    return engine.analyze(Block(), X)


def test_ratio_never_removes_more_than_asked():
    """37 % of 40 and 60 slots are 14.8 and 22.2: 14 and 22 go."""
    plan = engine.prune(Block(), example_inputs=X, ratio=0.37, dry_run=True).plan
    assert {name: len(kept) for name, kept in plan.groups.items()} == {"stem.out": 26, "conv1.out": 38}


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5, 0.9])
def test_parameter_budget_is_met(fraction):
    """One call lands within 1 % of the whole model."""
    model = Block(width=80, hidden=120)
    before = count(model)
    engine.prune(model, example_inputs=X, params=fraction)
    assert count(model) / before == pytest.approx(fraction, abs=0.01)


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5, 0.9])
def test_mac_budget_is_met_by_an_independent_count(fraction):
    """torch's own counter sees that fraction of the operations on the pruned model."""
    model = Block(width=80, hidden=120)
    before = flops(model)
    engine.prune(model, example_inputs=X, macs=fraction)
    assert flops(model) / before == pytest.approx(fraction, abs=0.01)


def flops(model):
    with FlopCounterMode(display=False) as counter:
        model(X)
    return counter.get_total_flops()


def test_costs_agree_with_independent_counts(graph):
    """Parameters are those of the model; a multiply-accumulate is two operations."""
    assert parameters(graph, lambda atom: atom.size) == count(graph.model)
    assert 2 * macs(graph, lambda atom: atom.size) == flops(graph.model)


def test_a_dry_run_tells_the_size_that_pruning_gives():
    """Before anything is sliced the result prints what will be left."""
    model = Block()
    planned = engine.prune(model, example_inputs=X, dry_run=True).after
    assert planned == engine.prune(model, example_inputs=X).after == count(model)


def test_price_of_a_plan_is_that_of_the_pruned_model(graph):
    """What a plan will cost is known before anything is sliced."""
    model = Block()
    plan = graph.choose(0.25)
    kept = {group.atom: len(plan.groups[group.name]) for group in graph.groups if group.name in plan.groups}
    price = parameters(graph, lambda atom: kept.get(atom, atom.size))
    engine.apply(model, plan)
    assert count(model) == price


@pytest.mark.parametrize(
    "options, message",
    [
        ({"ratio": 1.5}, "1.5"),
        ({"ratio": -0.1}, "-0.1"),
        ({"ratio": "half"}, "'half'"),
        ({"params": 0.0}, "params"),
        ({"macs": 1.2}, "macs"),
        ({"params": 0.01, "only": "stem"}, "cannot be met"),
        ({"ratio": 0.5, "macs": 0.5}, "give one of them"),
        ({"params": 0.5, "macs": 0.5}, "give one of them"),
        ({"round_to": 0}, "round_to"),
        ({"prefer": "middle"}, "prefer"),
        ({"criterion": "beauty"}, "beauty"),
        ({"criterion": lambda group, tensors: torch.ones(3)}, "scores of shape"),
        ({"skip": ["no.such.layer"]}, "no.such.layer"),
        ({"only": ["no.such.layer"]}, "no.such.layer"),
        ({"ratios": {"no.such.layer": 0.1}}, "no.such.layer"),
        ({"ratios": {"stem": 3}}, "3"),
    ],
)
def test_an_option_that_cannot_be_meant_is_one_clear_error(options, message):
    """The model is left as it was."""
    model = Block()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(PlanError, match=message) as error:
        engine.prune(model, example_inputs=X, **options)
    assert "\n" not in str(error.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_groups_are_selected_by_name_kind_or_module():
    """The same two groups, chosen in five ways."""
    ways = [{"only": ["conv1.out"]}, {"only": "conv1"}, {"skip": ["stem"]}, {"skip": ["s*.out"]}]
    for way in ways:
        plan = engine.prune(Block(), example_inputs=X, dry_run=True, **way).plan
        assert list(plan.groups) == ["conv1.out"]
    assert len(engine.prune(Block(), example_inputs=X, dry_run=True, only="out").plan.groups) == 2


def test_ratios_of_single_groups_win():
    """Patterns later in the dict win over earlier ones and over the ratio."""
    plan = engine.prune(Block(), example_inputs=X, ratios={"*": 0.1, "conv1": 0.75}, dry_run=True).plan
    assert {name: len(kept) for name, kept in plan.groups.items()} == {"stem.out": 36, "conv1.out": 15}


@pytest.mark.parametrize("round_to, kept", [(8, {"stem.out": 24, "conv1.out": 32}), (32, {"conv1.out": 32})])
def test_round_to(round_to, kept):
    """Kept slots are multiples; a group without a fitting multiple stays whole, and the result says so."""
    result = engine.prune(Block(), example_inputs=X, ratio=0.5, round_to=round_to, dry_run=True)
    found = {name: len(slots) for name, slots in result.plan.groups.items()}
    assert {name: size for name, size in found.items() if size % round_to == 0} == found
    for name, size in kept.items():
        assert found[name] == size
    left_alone = {"stem.out", "conv1.out"} - set(found)
    assert all(any(name in note for note in result.notes) for name in left_alone)


def test_magnitude_keeps_the_largest_slots():
    """The slots whose weights were made small are the ones that go."""
    model = Block()
    small = [1, 5, 7, 30]
    with torch.no_grad():
        model.conv1.weight[small] *= 1e-3
        model.conv1.bias[small] *= 1e-3
        model.conv2.weight[:, small] *= 1e-3
    plan = engine.prune(model, example_inputs=X, ratio=4 / 60, only="conv1", dry_run=True).plan
    assert sorted(set(range(60)) - set(plan.groups["conv1.out"])) == small


def test_own_criterion_is_a_callable():
    """The scores decide, whatever they are computed from."""

    def last_ones(group, tensors):
        return torch.arange(group.size).float()

    plan = engine.prune(Block(), example_inputs=X, criterion=last_ones, dry_run=True).plan
    assert plan.groups["stem.out"] == list(range(20, 40))


class Guarded(nn.Module):
    """Its own code takes another path below 32 channels, and insists on a multiple of four."""

    def __init__(self):
        super().__init__()
        self.enter = nn.Linear(5, 48)
        self.out = nn.Linear(48, 3)

    def forward(self, x):
        x = self.enter(x)
        if x.shape[-1] < 32:
            x = x * 2
        assert x.shape[-1] % 4 == 0
        return self.out(x)


def test_sizes_heed_the_comparisons_of_the_code():
    """A ratio that would take the other branch removes what the recorded path allows."""
    model = Guarded()
    engine.prune(model, example_inputs=torch.randn(2, 5), ratio=0.9)
    assert model.enter.weight.shape == (32, 5)


def test_a_plan_by_hand_that_takes_another_path_is_refused():
    """The message names the user's line."""
    graph = engine.analyze(Guarded(), torch.randn(2, 5))
    with pytest.raises(PlanError, match=r"if x.shape\[-1\] < 32"):
        graph.plan({"enter.out": range(8)})


def test_inner_slots_are_pruned_where_asked():
    """Whole groups of a grouped convolution by default, channels inside every group otherwise."""

    class Grouped(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(3, 24, 1)
            self.b = nn.Conv2d(24, 24, 3, groups=4)
            self.c = nn.Conv2d(24, 5, 1)

        def forward(self, x):
            return self.c(self.b(self.a(x)))

    outer, inner = Grouped(), Grouped()
    engine.prune(outer, example_inputs=X)
    engine.prune(inner, example_inputs=X, prefer="inner")
    assert (outer.b.groups, outer.b.weight.shape) == (2, (12, 6, 3, 3))
    assert (inner.b.groups, inner.b.weight.shape) == (4, (12, 3, 3, 3))
    assert inner(X).shape == outer(X).shape


class Radix(nn.Module):
    """Two branches in one grouped convolution, summed up; the code insists that there are two."""

    def __init__(self):
        super().__init__()
        self.radix = 2
        self.a = nn.Conv2d(3, 24, 1)
        self.b = nn.Conv2d(24, 32, 3, padding=1, groups=2)
        self.c = nn.Conv2d(16, 5, 1)

    def forward(self, x):
        x = self.b(self.a(x)).relu()
        if self.radix > 1:
            x = x.reshape(x.shape[0], self.radix, x.shape[1] // self.radix, *x.shape[2:]).sum(1)
        return self.c(x)


def test_inner_slots_take_their_turn_where_the_code_keeps_the_outer():
    """The two groups stay, and the result says why; so the channels inside of them are pruned."""
    model = Radix()
    result = engine.prune(model, example_inputs=X)
    assert (model.b.groups, model.b.weight.shape) == (2, (16, 6, 3, 3))
    assert any("radix > 1" in note for note in result.notes)
