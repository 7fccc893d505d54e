"""Example inputs of several calls: traced and coupled together, wherever example inputs go."""

import copy

import oracle
import pytest
import torch
from prunus import PlanError, TraceError, engine
from torch import nn
from trap_nets import Net, conv

IMAGE, TEXT = torch.randn(2, 3, 6, 6), torch.randn(2, 5)


class Two(nn.Module):
    """Two ways in, one trunk; what joins each with the trunk is only seen in its own call."""

    def __init__(self):
        super().__init__()
        self.see, self.read = nn.Conv2d(3, 8, 1), nn.Linear(5, 8)
        self.trunk, self.head = nn.Linear(8, 10), nn.Linear(10, 4)

    def forward(self, image=None, text=None):
        h = self.read(text) if image is None else self.see(image).mean((2, 3))
        return self.head(self.trunk(h.relu()).relu())


CALLS = [IMAGE, {"text": TEXT}]
FORMS = {
    "tensor and dict": CALLS,
    "tuple and pair": [(IMAGE,), ((), {"text": TEXT})],
    "of other batch sizes": [torch.randn(3, 3, 6, 6), (None, torch.randn(4, 5))],
}


def check_every(model, calls, plan):
    for call in calls:
        oracle.check(model, call, plan, tolerance=1e-5)


@pytest.mark.parametrize("calls", FORMS.values(), ids=FORMS)
def test_calls_are_coupled_together(calls):
    """Both ways in shrink with what the trunk reads, and both calls are exact."""
    model = Two()
    graph = engine.analyze(model, calls)
    assert graph.group("see.out") is graph.group("read.out") and graph.group("see.out").exact
    assert not graph.unreached
    plan = graph.choose(0.5)
    assert len(plan.tensors["read.weight"][0]) == len(plan.tensors["see.weight"][0]) == 4
    check_every(model, [IMAGE, {"text": TEXT}], plan)


def test_one_call_alone_names_what_it_does_not_reach():
    """The other way in keeps its width, and the notes say which group is as wide; strict refuses."""
    model = Two()
    graph = engine.analyze(model, IMAGE)
    assert [one.name for one in graph.unreached] == ["read.weight", "read.bias"]
    assert graph.unreached[0].equals == {0: ("see.out",)} and graph.unreached[0].shape == (8, 5)
    assert "read.weight (8 x 5)" in str(graph.unreached[0]) and "see.out" in str(graph.unreached[0])
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(PlanError, match=r"read\.weight"):
        engine.prune(model, example_inputs=IMAGE, strict=True)
    assert all(torch.equal(before[name], one) for name, one in model.state_dict().items())
    result = engine.prune(model, example_inputs=IMAGE)
    assert any("read.weight" in note and "see.out" in note for note in result.notes)
    assert "read.weight" in str(result)


def test_prune_verifies_every_call():
    """Both run afterwards with the shapes that they had; ratio, budgets and cost see both."""
    model = Two()
    cost = engine.cost(model, CALLS)
    assert cost.macs > engine.cost(model, IMAGE).macs and cost.params == engine.cost(model, IMAGE).params
    result = engine.prune(model, example_inputs=CALLS, macs=0.5, strict=True)
    assert result.notes == [] and model.trunk.in_features < 8
    assert model(IMAGE).shape == model(text=TEXT).shape == (2, 4)


def test_a_call_whose_outputs_change_fails_verification():
    """A free output may change, in every call; the others may not."""

    def forward(self, x, deep=False):
        h = self.a(x).relu()
        return self.b(h) if deep else h

    model = Net(forward, a=conv(3, 8), b=conv(8, 4))
    calls = [IMAGE, (IMAGE, True)]
    assert engine.analyze(model, calls).group("a.out").blocked
    assert engine.analyze(model, calls, free_outputs=[0]).group("a.out").blocked is None


def test_a_plan_of_several_calls_goes_on():
    """Replayed on a copy, written as JSON, masked, and with the optimizer's state."""
    model = Two()
    optimizer = torch.optim.Adam(model.parameters())
    for call in (model(IMAGE), model(text=TEXT)):
        call.square().sum().backward()
    optimizer.step()
    other = copy.deepcopy(model)
    plan = engine.Plan.from_json(engine.prune(model, example_inputs=CALLS, dry_run=True).plan.to_json())
    with engine.mask(model, plan):
        masked = [model(IMAGE), model(text=TEXT)]
    engine.apply(model, plan, optimizer=optimizer)
    engine.apply(other, plan)
    for run in (lambda one: one(IMAGE), lambda one: one(text=TEXT)):
        assert torch.equal(run(model), run(other))
        assert torch.allclose(run(model), masked.pop(0), atol=1e-6)
    model(text=TEXT).sum().backward()
    optimizer.step()


def test_a_checkpoint_of_experts_that_were_not_reached(tmp_path):
    """What was pruned along is in the file like any other tensor."""

    def forward(self, x, number):
        return self.head(self.experts[int(number)](self.enter(x)).relu())

    def fresh():
        torch.manual_seed(0)
        parts = {"enter": nn.Linear(5, 8), "head": nn.Linear(10, 3)}
        return Net(forward, experts=nn.ModuleList(nn.Linear(8, 10) for _ in range(3)), **parts)

    model, third = fresh(), (TEXT, torch.tensor(2))
    result = engine.prune(model, example_inputs=(TEXT, torch.tensor(0)), strict=True)
    assert model.experts[2].weight.shape == (5, 4)
    result.save(tmp_path / "half.safetensors")
    loaded = engine.load(tmp_path / "half.safetensors", fresh())
    assert torch.equal(loaded(*third), model(*third))


def test_schedule_and_regularizer_take_several_calls():
    """Wherever example inputs go."""
    model = Two()
    schedule = engine.Schedule(model, example_inputs=CALLS, ratio=0.5, steps=2, every=1)
    assert schedule.step() and schedule.step() and schedule.done
    assert model.trunk.in_features == 4 and model(text=TEXT).shape == (2, 4)
    model = Two()
    regularizer = engine.Regularizer(engine.analyze(model, CALLS), strength=1e-3)
    (model(IMAGE).sum() + model(text=TEXT).sum()).backward()
    before = model.read.weight.grad.clone()
    regularizer.step()
    assert not torch.equal(before, model.read.weight.grad)


@pytest.mark.parametrize("criterion", ["wanda", "variance"])
def test_calibration_data_may_take_either_path(criterion):
    """Each batch makes the calls of one of the example calls; statistics add up over both."""
    model = Two()
    data = [IMAGE, {"text": TEXT}, {"text": torch.randn(3, 5)}]
    result = engine.prune(model, example_inputs=CALLS, ratio=0.5, criterion=criterion, data=data)
    assert model.trunk.in_features == 4 and model(text=TEXT).shape == (2, 4)
    assert result.graph.trace.output_shapes == ((2, 4), (2, 4))


@pytest.mark.parametrize("how", ["mean", "lstsq"])
def test_corrections_see_all_paths(how):
    """The weights that read what is dropped are corrected for the data of both calls."""
    model = Two()
    data = [IMAGE, {"text": TEXT}]
    engine.prune(model, example_inputs=CALLS, ratio=0.5, data=data, compensate=how)
    assert model(IMAGE).shape == model(text=TEXT).shape == (2, 4)


def test_data_that_takes_only_one_of_the_paths():
    """A place that no batch has reached tells nothing; what was reached counts."""
    model = Two()
    engine.prune(model, example_inputs=CALLS, ratio=0.5, criterion="wanda", data=[IMAGE])
    assert model.trunk.in_features == 4


def test_data_on_an_unknown_path_is_refused():
    """As before, with the line where it leaves what was analysed."""
    with pytest.raises(PlanError, match="other calls"):
        engine.prune(Two(), example_inputs=IMAGE, criterion="wanda", data=[{"text": TEXT}])


@pytest.mark.parametrize(
    "calls, text", [([], "empty list"), ([IMAGE, [IMAGE]], "list of these"), ([3], "int")]
)
def test_lists_that_are_none_of_calls_are_refused(calls, text):
    """One clear error."""
    with pytest.raises(TraceError, match=text):
        engine.analyze(Two(), calls)


def test_fake_tensors_take_several_calls():
    """Nothing runs for real."""
    with torch.device("meta"):
        model = Two()
    graph = engine.analyze(model, CALLS, fake=True)
    assert graph.group("see.out") is graph.group("read.out")
