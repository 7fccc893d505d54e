"""What an interrupt or a refusal in the middle of a change leaves: all of it, or nothing."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from chaos.disturbances import Leaving, Lines
from chaos.injections import fault, reference
from chaos.operations import OPERATIONS
from oracle import run
from prunus import PlanError, VerificationError, engine
from prunus.adapters.apply import all_or_nothing
from torch import nn

PLACES = {
    "apply": ("adapters/apply.py", "adapters/torch_caches.py", "adapters/undo.py"),
    "mask": ("adapters/masking.py", "adapters/undo.py"),
    "schedule step": ("engine/training/schedule.py", "engine/tracing/alone.py"),
    "recalibrate": ("engine/training/recalibrate.py",),
    "regularizer growing": ("engine/training/regularizer.py", "engine/training/penalties.py"),
}


@pytest.mark.parametrize("operation", PLACES)
def test_every_line_of_a_change(operation):
    """The last time that it is run."""
    net = "picture" if operation == "recalibrate" else "plain"
    found = reference(operation, net).lines.met
    lines = [line for line in found if line[0].co_filename.endswith(PLACES[operation])]
    assert len(lines) > 10
    for line in lines:
        assert fault(operation, net, Lines(line, found[line] - 1)) is None


@pytest.mark.parametrize("operation", ["analyze", "prune", "prune compensate", "schedule", "recalibrate"])
def test_blocks_that_python_does_not_leave(operation):
    """An interrupt in `contextlib`; while the exception is there, so is the block."""
    counted = Leaving()
    with counted:
        OPERATIONS[operation]("picture").run()
    assert counted.met > 10
    for time in range(0, counted.met, -(-counted.met // 12)):
        assert fault(operation, "picture", Leaving(time)) is None


class Step:
    """A step of a change, which writes down what is done."""

    def __init__(self, done: list[str], name: str, refuses: bool = False):
        self.done, self.name, self.refuses = done, name, refuses

    def carry_out(self):
        self.done.append(self.name)

    def take_back(self):
        if self.refuses:
            raise OSError("no")
        self.done.remove(self.name)


def test_a_step_that_cannot_be_taken_back_stops_no_other():
    """The others are, and the refusal is raised."""
    done: list[str] = []
    steps = [Step(done, "one"), Step(done, "two", refuses=True), Step(done, "three")]
    with pytest.raises(OSError, match="no"):
        all_or_nothing(steps, lambda: 1 / 0, Step(done, "last"))
    assert done == ["two"]


class Stubborn(list):
    """A list that grows but cannot be emptied."""

    def clear(self):
        raise RuntimeError("this list keeps what it has")


def test_what_cannot_be_put_back_stops_nothing_else():
    """A buffer, a flag and another list are as before, though one list refuses."""

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls, self.others = Stubborn([0]), [0]
            self.layer, self.norm = nn.Linear(4, 6), nn.BatchNorm1d(6)
            self.register_buffer("runs", torch.zeros(1))

        def forward(self, x):
            self.runs += 1
            self.calls.append(1)
            self.others.append(1)
            return self.norm(self.layer(x))

    model = Counting()
    with pytest.raises(RuntimeError, match="keeps what it has"):
        engine.analyze(model, torch.randn(2, 4))
    assert model.runs == 0 and model.others == [0] and model.norm.training
    assert torch.is_grad_enabled()


def perceptron():
    """A model with an input."""
    return nn.Sequential(
        nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)
    ), torch.randn(4, 6)


def test_a_step_of_a_schedule_that_fails_is_not_counted():
    """The next call tries again, and the schedule comes to its end."""
    model, x = perceptron()
    fails = [True]

    def criterion(group, tensors):
        if fails and fails.pop():
            raise ZeroDivisionError("once")
        return torch.arange(float(group.size))

    schedule = engine.Schedule(model, example_inputs=x, ratio=0.5, steps=2, every=3, criterion=criterion)
    before = schedule.state_dict()
    with pytest.raises(Exception, match="once"):
        schedule.step()
    assert schedule.state_dict() == before
    results = [schedule.step() for _ in range(4)]
    assert [result is not None for result in results] == [True, False, False, True]
    assert schedule.done and model[0].weight.shape == (8, 6)


def test_a_schedule_that_is_interrupted_once_the_model_is_cut_can_be_saved_and_loaded():
    """It knows what has been done, and a fresh one goes on from there."""
    place = next(
        line
        for line in reference("schedule step", "plain").lines.met
        if line[0].co_filename.endswith("schedule.py") and "after" in line[0].co_name
    )
    model, x = perceptron()
    fresh = copy.deepcopy(model)
    schedule = engine.Schedule(model, example_inputs=x, ratio=0.5, steps=2, every=1)
    with pytest.raises(KeyboardInterrupt), Lines(place):
        schedule.step()
    assert model[0].weight.shape[0] < 16
    assert schedule.state_dict()["step"] == 1
    other = engine.Schedule(fresh, example_inputs=x, ratio=0.5, steps=2, every=1)
    other.load_state_dict(schedule.state_dict())
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(run(fresh, x)[0], run(model, x)[0])
    assert str(other.step().plan) == str(schedule.step().plan)


def test_a_penalty_that_cannot_be_added_to_one_gradient_is_added_to_none():
    """Also where that gradient is the last."""
    model, x = perceptron()
    regularizer = engine.Regularizer(engine.analyze(model, x), "growing", strength=0.1)
    model(x).sum().backward()
    last = model[4].weight
    last.grad = last.grad.to_sparse()
    before = [parameter.grad.clone() for parameter in list(model.parameters())[:-2]]
    with pytest.raises(PlanError, match="sparse"):
        regularizer.step()
    assert all(torch.equal(a.grad, b) for a, b in zip(model.parameters(), before))
    assert regularizer.state_dict() == {"steps": 0, "chosen": None}


def test_no_memory_at_other_sizes_is_no_answer_of_the_model():
    """It is an error, not a reason to hold a group."""
    runs = itertools.count()

    class Greedy(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))

        def forward(self, x):
            x = self.layers(x)
            if next(runs) > 0:
                raise MemoryError("nothing left")
            return x

    model = Greedy()
    before = model.layers[0].weight.clone()
    with pytest.raises(Exception, match="nothing left") as caught:
        engine.prune(model, example_inputs=torch.randn(2, 6))
    assert isinstance(caught.value.__cause__, MemoryError)
    assert torch.equal(model.layers[0].weight, before)


def test_an_error_of_what_comes_last_takes_all_back():
    """A plan that was carried out wholly is taken back if it cannot be told."""
    model, x = perceptron()
    plan = engine.prune(model, example_inputs=x, dry_run=True).plan
    from prunus.adapters.apply import carry_out

    whole = run(model, x)
    with pytest.raises(VerificationError, match="as it was"):
        carry_out(model, plan, then=lambda notes: 1 / 0)
    assert torch.equal(run(model, x)[0], whole[0])
