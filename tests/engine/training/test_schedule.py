"""Iterative pruning: when, how much, and what is left of plans, optimizers and checkpoints."""

import copy
import json

import pytest
import torch
from prunus import PlanError, engine
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    """A residual stream, a hidden layer and a classifier."""

    def __init__(self, width=24, hidden=40):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, hidden, 3, padding=1)
        self.conv2 = nn.Conv2d(hidden, width, 1)
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = x + self.conv2(F.relu(self.conv1(x)))
        return self.head(x.mean((2, 3)))


X = torch.randn(2, 3, 6, 6)


def macs(model):
    return engine.cost(model, X).macs


def sizes(model):
    return model.stem.out_channels, model.conv1.out_channels


def train(model, optimizer, schedule, iterations, after=lambda: None):
    """Some iterations of training with the schedule; returns those at which the model was pruned."""
    pruned = []
    for iteration in range(iterations):
        optimizer.zero_grad()
        F.cross_entropy(model(torch.randn(4, 3, 6, 6)), torch.randint(4, (4,))).backward()
        optimizer.step()
        if schedule.step() is not None:
            pruned.append(iteration)
        after()
    return pruned


def run(schedule, iterations=100):
    """The fractions of the multiply-accumulates after each pruning."""
    model, whole = schedule.model, macs(schedule.model)
    return [macs(model) / whole for _ in range(iterations) if schedule.step() is not None]


def test_it_prunes_when_its_turn_has_come():
    """At start, start + every, ... as many times as there are steps; then it is done."""
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    schedule = engine.Schedule(
        model, optimizer=optimizer, example_inputs=X, macs=0.5, steps=3, every=4, start=2
    )
    assert train(model, optimizer, schedule, 10) == [2, 6]
    assert not schedule.done
    assert train(model, optimizer, schedule, 10) == [0]
    assert schedule.done


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ("geometric", [0.5 ** (k / 4) for k in (1, 2, 3, 4)]),
        ("linear", [0.875, 0.75, 0.625, 0.5]),
        ("cubic", [0.5 + 0.5 * (1 - k / 4) ** 3 for k in (1, 2, 3, 4)]),
        (lambda done, final: 1.0 if done < 0.5 else final, [1.0, 0.5, 0.5, 0.5]),
    ],
)
def test_each_step_is_a_fraction_of_the_whole_model(curve, expected):
    """After each step the model has what the curve says of its first multiply-accumulates."""
    schedule = engine.Schedule(Net(60, 90), example_inputs=X, macs=0.5, steps=4, every=1, curve=curve)
    assert run(schedule) == pytest.approx(expected, abs=0.012)


@pytest.mark.parametrize("scope", ["local", "global", "isomorphic"])
def test_parameters_end_at_the_budget(scope):
    """Whatever the scope, the last step leaves that fraction of the parameters."""
    model = Net(60, 90)
    before = sum(one.numel() for one in model.parameters())
    run(engine.Schedule(model, example_inputs=X, params=0.3, steps=5, every=1, scope=scope))
    assert sum(one.numel() for one in model.parameters()) / before == pytest.approx(0.3, abs=0.01)


def test_a_latency_budget_is_of_the_whole_model():
    """With a cost of one second for each output channel the last step leaves half of the channels."""
    model = Net(60, 90)
    seconds = lambda call, shapes: shapes["result"][1] if call.name.endswith("conv2d") else 0  # noqa: E731
    run(engine.Schedule(model, example_inputs=X, latency=(0.5, seconds), steps=3, every=1))
    assert 2 * model.stem.out_channels + model.conv1.out_channels == pytest.approx(105, abs=3)


@pytest.mark.parametrize("options", [{"ratios": {"stem": 0.25}}, {"ratios": {"stem": 0.4}, "round_to": 2}])
@pytest.mark.parametrize("curve", ["geometric", "linear", "cubic"])
def test_the_others_do_not_pay_for_a_coarse_group_with_its_own_ratio(curve, options):
    """A stream of few slots cannot follow the curve closely; the last step meets the budget nevertheless."""
    model = Net(4, 200)
    before = sum(one.numel() for one in model.parameters())
    run(engine.Schedule(model, example_inputs=X, params=0.5, steps=4, every=1, curve=curve, **options))
    assert sum(one.numel() for one in model.parameters()) / before == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_ratios_do_not_drift_with_the_number_of_steps(steps):
    """Half of 24 and a quarter of 40 slots go, in one step or in seven."""
    schedule = engine.Schedule(
        Net(), example_inputs=X, ratio=0.5, ratios={"conv1": 0.25}, steps=steps, every=1
    )
    run(schedule)
    assert sizes(schedule.model) == (12, 30)


def test_a_global_ratio_is_of_all_slots():
    """With one ranking of all slots, half of the 64 slots are left."""
    schedule = engine.Schedule(Net(), example_inputs=X, ratio=0.5, scope="global", steps=5, every=1)
    run(schedule)
    assert sum(sizes(schedule.model)) == pytest.approx(32, abs=1)


def test_a_group_may_shrink_to_one_slot():
    """A group of one slot is no group any more: the steps after it go on without it."""
    schedule = engine.Schedule(Net(), example_inputs=X, ratio=0.5, ratios={"conv1": 0.98}, steps=6, every=1)
    run(schedule)
    assert sizes(schedule.model) == (12, 1)


@pytest.mark.parametrize("only", ["conv1", ["conv1.out"], ["conv1", "stem.out"]])
def test_a_pattern_may_fit_nothing_in_the_end(only):
    """What was named goes down to one slot before the last step, which then has nothing to do there."""
    schedule = engine.Schedule(
        Net(8, 6), example_inputs=X, ratio=0.5, ratios={"conv1": 0.9}, only=only, steps=8, every=1
    )
    run(schedule)
    assert schedule.done
    assert sizes(schedule.model) == (4 if "stem.out" in only else 8, 1)


def test_options_of_prune_are_passed_on():
    """What is skipped stays whole, and the other sizes are multiples."""
    schedule = engine.Schedule(
        Net(), example_inputs=X, macs=0.4, steps=3, every=1, skip="stem", round_to=8, criterion="random"
    )
    run(schedule)
    assert sizes(schedule.model) == (24, 16)


def test_the_optimizers_state_is_sliced_along():
    """After each step Adam's moments have the shapes of the parameters, and training goes on."""
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = engine.Schedule(model, optimizer=optimizer, example_inputs=X, macs=0.3, steps=3, every=2)

    def shapes_agree():
        for parameter in model.parameters():
            assert optimizer.state[parameter]["exp_avg"].shape == parameter.shape

    train(model, optimizer, schedule, 8, shapes_agree)
    assert schedule.done


def test_the_plan_makes_the_same_of_the_first_model():
    """All steps together are one plan: of an untrained copy it makes the model that the steps made."""
    model = Net()
    first = copy.deepcopy(model)
    schedule = engine.Schedule(model, example_inputs=X, macs=0.3, steps=4, every=1)
    run(schedule)
    engine.apply(first, schedule.plan)
    for ours, theirs in zip(model.parameters(), first.parameters()):
        assert torch.equal(ours, theirs)
    assert (first.conv1.in_channels, first.head.in_features) == (
        model.conv1.in_channels,
        model.head.in_features,
    )


def test_a_regularizer_is_made_again_after_each_step():
    """Sparse training and iterative pruning together, as the documentation shows them."""
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    schedule = engine.Schedule(model, optimizer=optimizer, example_inputs=X, ratio=0.5, steps=2, every=2)
    regularizer = engine.Regularizer(engine.analyze(model, X))
    for _ in range(6):
        optimizer.zero_grad()
        F.cross_entropy(model(X), torch.tensor([0, 1])).backward()
        regularizer.step()
        optimizer.step()
        if schedule.step():
            regularizer = engine.Regularizer(engine.analyze(model, X))
    assert schedule.done
    assert sizes(model) == (12, 20)


def make(seed, **options):
    torch.manual_seed(seed)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    options = {"macs": 0.4, "steps": 4, "every": 3, **options}
    return model, optimizer, engine.Schedule(model, optimizer=optimizer, example_inputs=X, **options)


@pytest.mark.parametrize("budget", [{"macs": 0.4}, {"macs": None, "ratio": 0.6}])
def test_a_run_goes_on_from_its_state(budget):
    """Stopped after the second step and loaded into a fresh process, it ends with the same weights."""
    model, optimizer, schedule = make(0, **budget)
    train(model, optimizer, schedule, 5)
    saved = model.state_dict(), optimizer.state_dict(), json.loads(json.dumps(schedule.state_dict()))
    saved = copy.deepcopy(saved)
    torch.manual_seed(1)
    train(model, optimizer, schedule, 7)

    fresh, its_optimizer, resumed = make(2, **budget)
    resumed.load_state_dict(saved[2])
    fresh.load_state_dict(saved[0])
    its_optimizer.load_state_dict(saved[1])
    torch.manual_seed(1)
    train(fresh, its_optimizer, resumed, 7)
    assert resumed.done
    assert resumed.plan == schedule.plan
    for ours, theirs in zip(fresh.parameters(), model.parameters()):
        assert torch.equal(ours, theirs)


def test_the_state_fits_a_model_that_is_pruned_already():
    """A model that was loaded in its pruned form is left as it is."""
    model, _, schedule = make(0)
    schedule.step()
    state = schedule.state_dict()
    other = engine.Schedule(model, example_inputs=X, macs=0.4, steps=4, every=3)
    before = sizes(model)
    other.load_state_dict(state)
    assert sizes(model) == before
    assert str(other) == str(schedule)


@pytest.mark.parametrize("options", [{"ratio": 0.75}, {"ratio": 0.75, "scope": "global"}])
def test_a_state_on_a_pruned_model_goes_on_from_the_whole_one(options):
    """A new schedule of a model that is pruned already ends with the sizes of the one that goes on."""
    _, _, schedule = make(0, macs=None, every=1, **options)
    run(schedule, 2)
    pruned = copy.deepcopy(schedule.model)
    other = engine.Schedule(pruned, example_inputs=X, steps=4, every=1, **options)
    other.load_state_dict(schedule.state_dict())
    run(schedule)
    run(other)
    assert sizes(pruned) == sizes(schedule.model)


def test_the_state_of_another_model_is_refused():
    """One clear error, and the model is as it was."""
    schedule = make(0)[2]
    schedule.step()
    other = engine.Schedule(Net(30, 50), example_inputs=X, macs=0.4, steps=4)
    with pytest.raises(PlanError, match="another model"):
        other.load_state_dict(schedule.state_dict())
    assert sizes(other.model) == (30, 50)
    with pytest.raises(PlanError, match="not the state of a schedule"):
        other.load_state_dict({"step": 1})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": 5}, "macs=0.4 and steps=5, not macs=0.4 and steps=4"),
        ({"budget": "params=0.5"}, "params=0.5 and steps=4, not macs=0.4"),
        ({"left": None}, "another model"),
        ({"left": {}}, "another model"),
        ({"whole": {"none": 3}, "left": {"none": 3}}, "another model"),
        ({"priced": None}, "another model"),
        ({"iteration": "7"}, "another model"),
        ({"step": 9}, "another model"),
        ({"plan": "{}"}, "not the JSON of a plan"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(changed, message):
    """Other steps, another budget or broken data: an error, and model and schedule are as they were."""
    schedule = make(0)[2]
    schedule.step()
    model, _, other = make(1)
    before = other.state_dict()
    with pytest.raises(PlanError, match=message):
        other.load_state_dict({**schedule.state_dict(), **changed})
    assert sizes(model) == (24, 40)
    assert other.state_dict() == before


def test_it_prints_where_it_is():
    """Steps done, what is left, and when it goes on."""
    schedule = engine.Schedule(Net(), example_inputs=X, ratio=0.5, steps=2, every=10, start=5)
    assert (
        str(schedule)
        == "pruned 0 of 2 times: 100.0% of the slots left, 50.0% in the end; next at iteration 5"
    )
    for _ in range(6):
        schedule.step()
    assert "pruned 1 of 2 times: 71.9% of the slots left" in str(schedule)
    assert "next at iteration 15" in str(schedule)
    run(schedule)
    assert str(schedule) == "pruned 2 of 2 times: 50.0% of the slots left, 50.0% in the end; done"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is a whole number from 1 up, not 0"),
        ({"every": 2.5}, "every is a whole number from 1 up, not 2.5"),
        ({"start": -1}, "start is a whole number from 0 up, not -1"),
        ({"macs": 0.5, "params": 0.5}, "give one of them"),
        ({"macs": 0.01, "skip": "conv1"}, "cannot be met"),
        ({"ratio": 1.5}, "a ratio is a fraction"),
        ({"curve": "spiral"}, "known are geometric, linear, cubic"),
        ({"curve": lambda done, final: 0.9}, "must go down from 1 to 0.5 in 5 steps, not by 0.9, 0.9"),
        ({"rounding": 8}, "'rounding' is no option of a schedule"),
        ({"dry_run": True}, "'dry_run' is no option of a schedule"),
        ({"min_keep": 0.2}, "min_keep is a number of slots in a schedule"),
        ({"skip": "nothing"}, "no group, kind or module fits 'nothing'"),
        ({"criterion": "beauty"}, "no criterion 'beauty'"),
        ({"criterion": "wanda"}, "needs calibration data"),
        ({"compensate": "zz", "data": [X]}, "compensate= is 'mean', 'lstsq' or a pair"),
        ({"compensate": "mean"}, "needs calibration data"),
        ({"data": X}, "write data=.batch."),
    ],
)
def test_bad_options_are_told_before_the_training(options, message):
    """What would fail at a later step is an error at once, and the model is as it was."""
    model = Net()
    with pytest.raises(PlanError, match=message):
        engine.Schedule(model, example_inputs=X, **options)
    assert sizes(model) == (24, 40)
