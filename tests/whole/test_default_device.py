"""What the engine makes for itself lies where its model does, whatever the caller's default device is."""

from __future__ import annotations

import pytest
import torch
from prunus import engine
from trained_nets import NETS

CRITERIA = ["magnitude", "lamp", "fpgm", "random", "taylor", "wanda"]


@pytest.fixture
def elsewhere():
    """A default device on which no number can be read."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("kind", NETS)
def test_pruning_beside_another_default_device(kind, criterion, elsewhere):
    """The plan is the one of a caller without a default device."""
    make, batch = NETS[kind]
    with torch.device("cpu"):
        model, x = make().eval(), batch()
    options = {"criterion": criterion, "dry_run": True, "scope": "global", "example_inputs": x}
    if criterion in ("taylor", "wanda"):
        options["data"] = [x]
    if criterion == "taylor":
        options["loss"] = lambda model, batch: model(batch).square().mean()
    plan = engine.prune(model, **options).plan
    torch.set_default_device(None)
    assert plan.to_json() == engine.prune(model, **options).plan.to_json()


@pytest.mark.parametrize("kind", NETS)
def test_living_on_beside_another_default_device(kind, elsewhere, tmp_path):
    """A model is masked, pressed, corrected, pruned in steps, saved and loaded."""
    make, batch = NETS[kind]
    with torch.device("cpu"):
        model, fresh, x = make(), make(), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    graph = engine.analyze(model, x)
    with engine.mask(model, graph.choose(ratio=0.5)):
        model(x)
    regularizer = engine.Regularizer(graph)
    model(x).square().mean().backward()
    regularizer.step()
    optimizer.step()
    schedule = engine.Schedule(model, steps=2, every=1, example_inputs=x, ratio=0.5, optimizer=optimizer)
    while not schedule.done:
        schedule.step()
    engine.recalibrate(model, [x])
    result = engine.prune(model, example_inputs=x, compensate="lstsq", data=[x])
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"cpu"}
    assert result.after < result.before
    result.save(tmp_path / "some.safetensors")
    engine.apply(fresh, schedule.plan)
    state = engine.load(tmp_path / "some.safetensors", fresh).state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_example_inputs_are_guessed_on_the_models_device(elsewhere):
    """A guess is made where the parameters are."""
    with torch.device("cpu"):
        model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 3))
    result = engine.prune(model)
    assert result.after < result.before
