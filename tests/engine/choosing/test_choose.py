"""How much goes of which group: ratios, budgets, selection, and what stands in the way."""

from itertools import product

import pytest
import torch
from prunus import PlanError, PrunusError, engine
from prunus.engine.choosing.cost import macs, parameters
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
        ({"macs": 0.5, "latency": 0.5}, "give one of them"),
        ({"latency": 2}, "latency"),
        ({"scope": "galactic"}, "galactic"),
        ({"min_keep": 0}, "min_keep"),
        ({"min_keep": 1.5}, "min_keep"),
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
    assert left_alone <= set(result.left_alone)


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
    assert any("radix > 1" in reason for reason in result.left_alone.values())


class Unequal(nn.Module):
    """Three hidden layers in a row; the weights of the second are ten times smaller in half of its slots."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a = nn.Linear(8, 40)
        self.b = nn.Linear(40, 40)
        self.c = nn.Linear(40, 40)
        self.out = nn.Linear(40, 3)
        with torch.no_grad():
            self.b.weight[::2] *= 0.01
            self.c.weight[:, ::2] *= 0.01

    def forward(self, x):
        return self.out(self.c(self.b(self.a(x).relu()).relu()).relu())


FEATURES = torch.randn(4, 8)


def kept_of(model, inputs, **options):
    """How many slots stay of each group that is pruned."""
    plan = engine.prune(model, example_inputs=inputs, dry_run=True, **options).plan
    return {name: len(slots) for name, slots in plan.groups.items()}


def test_global_scope_takes_the_slots_where_they_matter_least():
    """A sixth of all slots are the 20 small ones of one group; local scope takes a sixth of each."""
    assert kept_of(Unequal(), FEATURES, ratio=1 / 6, scope="global") == {"b.out": 20}
    assert kept_of(Unequal(), FEATURES, ratio=1 / 6) == {"a.out": 34, "b.out": 34, "c.out": 34}


def test_isomorphic_scope_ranks_groups_of_the_same_structure_together():
    """The hidden groups of two equal blocks compete with one another, and not with the stream between."""

    class Blocks(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter = nn.Linear(8, 32)
            self.up = nn.ModuleList(nn.Linear(32, 60) for _ in range(2))
            self.down = nn.ModuleList(nn.Linear(60, 32) for _ in range(2))
            self.out = nn.Linear(32, 3)

        def forward(self, x):
            x = self.enter(x)
            for up, down in zip(self.up, self.down):
                x = x + down(up(x).relu())
            return self.out(x)

    def score(group, tensors):
        """All slots of the first block score below all of the second, the stream's lowest of all."""
        return {"enter.out": 0.0, "up.0.out": 1.0, "up.1.out": 2.0}[group.name] + torch.rand(group.size)

    kept = kept_of(Blocks(), FEATURES, ratio=0.25, scope="isomorphic", criterion=score)
    assert kept == {"enter.out": 24, "up.0.out": 30}


@pytest.mark.parametrize("scope", ["local", "global", "isomorphic"])
@pytest.mark.parametrize("budget", ["params", "macs"])
def test_every_scope_meets_a_budget(scope, budget):
    """In one call, counted on the pruned model."""
    model = Block(width=80, hidden=120)
    count_of = count if budget == "params" else flops
    before = count_of(model)
    engine.prune(model, example_inputs=X, scope=scope, **{budget: 0.4})
    assert count_of(model) / before == pytest.approx(0.4, abs=0.01)


def test_steps_that_are_coarse_are_made_up_for():
    """Two heads go or stay: whichever, the hidden layer beside them takes what is left of the budget."""

    class Coarse(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(64, 2, batch_first=True)
            self.up, self.down = nn.Linear(64, 300), nn.Linear(300, 64)
            self.enter, self.out = nn.Linear(5, 64), nn.Linear(64, 3)

        def forward(self, x):
            x = self.enter(x)
            x = x + self.attention(x, x, x, need_weights=False)[0]
            return self.out(x + self.down(self.up(x).relu()))

    model = Coarse()
    before = count(model)
    result = engine.prune(model, example_inputs=torch.randn(2, 7, 5), params=0.7)
    assert count(model) / before == pytest.approx(0.7, abs=0.01) and not result.notes


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("least, kept", [(30, 30), (0.9, 36), (100, None)])
def test_min_keep_is_a_number_of_slots_or_a_fraction(scope, least, kept):
    """No group is left with less, whatever the ratio; a smaller one is left whole, which is said."""
    result = engine.prune(
        Unequal(), example_inputs=FEATURES, ratio=0.8, scope=scope, min_keep=least, dry_run=True
    )
    found = [len(slots) for slots in result.plan.groups.values()]
    if kept is None:
        assert found == [] and set(result.left_alone) == {"a.out", "b.out", "c.out"}
    else:
        assert found == [kept] * 3


def test_latency_is_priced_by_a_function_of_the_callers():
    """The function is given each call with the shapes that it would have, and its sum is what is kept."""
    asked = []

    def seconds(call, shapes):
        """Only what layer b does takes time, in proportion to its output features."""
        asked.append((call.module, shapes))
        return shapes["result"][-1] / 1000 if call.name.endswith("linear") and call.module == "b" else 0.0

    kept = kept_of(Unequal(), FEATURES, latency=(0.5, seconds))
    assert kept["b.out"] == 20
    whole = dict(asked[:7])["b"]
    assert whole["weight"] == (40, 40) and whole["input"] == (4, 40)


def test_latency_is_measured_where_nothing_is_said():
    """The calls are run by themselves at the sizes in question; the model is not touched."""
    model = Block()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = engine.prune(model, example_inputs=torch.randn(8, 3, 32, 32), latency=0.7, dry_run=True)
    assert result.plan.groups
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_cost_is_told_call_by_call():
    """Each call with its multiply-accumulates and the parameters that it is the first to use."""
    model = Block()
    cost = engine.cost(model, X)
    assert (cost.params, 2 * cost.macs) == (count(model), flops(model))
    conv = next(row for row in cost.calls if row.call.module == "conv2")
    assert (conv.params, conv.macs) == (60 * 40 + 40, 2 * 64 * 60 * 40)
    assert "conv2" in str(cost) and f"{cost.macs:,}" in str(cost)


def test_the_result_says_what_was_decided_of_every_group():
    """Pruned, skipped, too small for its steps, held: each has a row, and a reason if it was left alone."""
    result = engine.prune(Block(), example_inputs=X, macs=0.5, skip="stem", dry_run=True)
    rows = {line.split()[0]: line.split() for line in str(result).splitlines() if ".out" in line}
    assert rows["conv1.out"][1:4] == ["out", "60", str(len(result.plan.groups["conv1.out"]))]
    assert rows["stem.out"][2:] == ["40", "40", "skip='stem'"]
    assert "output" in rows["head.out"]


class Strict(nn.Module):
    """Its code insists on multiples of sixteen in two of three hidden layers."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 64), nn.Linear(64, 64), nn.Linear(64, 100)
        self.out = nn.Linear(100, 4)

    def forward(self, x):
        x = self.a(x).relu()
        assert x.shape[1] % 16 == 0
        x = self.b(x).relu()
        assert x.shape[1] % 16 == 0
        return self.out(self.c(x).relu())


@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.7])
def test_a_budget_is_met_or_said_to_be_missed_where_the_code_wants_certain_sizes(fraction):
    """What the code does not let go, the other groups make up for."""
    model = Strict()
    before = count(model)
    result = engine.prune(model, example_inputs=FEATURES, params=fraction)
    assert model.a.out_features % 16 == model.b.out_features % 16 == 0
    assert (abs(count(model) / before - fraction) <= 0.01) is not any("params" in n for n in result.notes)


class Few(nn.Module):
    """Two groups of few slots, in which only some combinations come near a budget."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3), nn.Conv2d(12, 3, 1)

    def forward(self, x):
        return self.c(self.b(self.a(x)))


@pytest.mark.parametrize("round_to", [1, 2])
@pytest.mark.parametrize("fraction", [0.2, 0.35, 0.5, 0.65, 0.8, 0.9])
def test_the_nearest_is_the_nearest_of_all(fraction, round_to):
    """If a budget is said to be missed, no combination of sizes comes within one percent of it."""
    graph = engine.analyze(Few(), X)
    notes = graph.choice(macs=fraction, round_to=round_to).notes
    sizes = [range(round_to, size + 1, round_to) for size in (8, 12)]
    atoms = [graph.group(name).atom for name in ("a.out", "b.out")]
    whole = macs(graph, lambda atom: atom.size)

    def price(a, b):
        kept = dict(zip(atoms, (a, b)))
        return macs(graph, lambda atom: kept.get(atom, atom.size)) / whole

    reachable = min(abs(price(*one) - fraction) for one in product(*sizes)) <= 0.01
    assert reachable is (not notes)


def test_ratios_of_tied_groups_are_those_that_are_given():
    """Of groups that shrink together only one is named: its ratio holds for all, whatever the others' is."""
    model = nn.TransformerEncoderLayer(32, 8, 50, batch_first=True)
    inside = nn.Sequential(nn.Linear(5, 32), model, nn.Linear(32, 3)).eval()
    result = engine.prune(
        inside, example_inputs=torch.randn(2, 4, 5), ratio=0.25, ratios={"1.self_attn.heads": 0.75}
    )
    assert model.self_attn.num_heads == 2
    assert len(result.plan.groups["1.linear1.out"]) == 38


def test_a_group_is_selected_by_its_name_whatever_that_is():
    """Names may have brackets, which are no pattern then."""

    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(6, 4))
            self.v = nn.Parameter(torch.randn(6, 7))

        def forward(self, x):
            return (x @ self.w.T).relu() @ self.v

    graph = engine.analyze(Doubled(), torch.randn(2, 4))
    group = next(group for group in graph.groups if group.producers)
    group.name = "w[0]"
    assert graph.choose(skip=["w[0]"]).groups == {}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"latency": (0.5,)}, "pair"),
        ({"latency": (0.5, "fast")}, "pair"),
        ({"latency": (0.5, lambda call, shapes: float("nan"))}, "no time"),
        ({"latency": (0.5, lambda call, shapes: -1.0)}, "no time"),
        ({"latency": (0.5, lambda call, shapes: None)}, "no time"),
        ({"ratios": 0.5}, "by pattern"),
        ({"skip": 5}, "strings"),
        ({"only": [1]}, "strings"),
        ({"scope": ["local"]}, "scope"),
        ({"min_keep": float("nan")}, "min_keep"),
        ({"min_keep": float("inf")}, "min_keep"),
        ({"rules": X}, "example_inputs="),
    ],
)
def test_an_option_of_another_type_is_one_clear_error(options, message):
    """No traceback from the inside."""
    with pytest.raises(PrunusError, match=message):
        engine.prune(Block(), example_inputs=X, **options)
