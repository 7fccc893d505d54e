"""On an accelerator, models are analysed, pruned and saved as on the CPU, and nothing leaves the device."""

from __future__ import annotations

import copy

import oracle
import pytest
import torch
from prunus import engine
from torch import nn
from trained_nets import NETS, moved
from trap_nets import TRAPS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(autouse=True)
def exact_arithmetic():
    """Products in whole float32, so that two ways to compute one thing can be compared."""
    settings = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [one.allow_tf32 for one in settings]
    for one in settings:
        one.allow_tf32 = False
    yield
    for one, allowed in zip(settings, before):
        one.allow_tf32 = allowed


def described(graph) -> list:
    return [(group.name, group.size, group.members, group.exact, group.blocked) for group in graph.groups]


@pytest.mark.parametrize("trap", TRAPS, ids=str)
def test_traps_on_the_device(trap):
    """The same groups as on the CPU, exact at random slots."""
    torch.manual_seed(0)
    on_cpu = engine.analyze(trap.build().eval(), trap.inputs())
    with torch.device("cuda"):  # the caller's default, which the engine's own tensors do not follow
        model, inputs = trap.build().eval(), trap.inputs()
        graph = engine.analyze(model, inputs)
        assert described(graph) == described(on_cpu)
        plan = graph.choose(ratio=0.5, criterion="random", exact_only=True)
        oracle.check(model, inputs, plan, tolerance=1e-5)
        engine.prune(model, example_inputs=inputs)
    assert {tensor.device.type for tensor in model.state_dict().values()} <= {"cuda"}


@pytest.mark.parametrize("criterion", ["magnitude", "taylor", "wanda"])
@pytest.mark.parametrize("kind", NETS)
def test_the_plan_is_that_of_the_cpu(kind, criterion):
    """In double precision, the two choose the same slots."""
    make, batch = NETS[kind]
    model, x = make().double().eval(), moved(batch(), torch.double)
    options = {"criterion": criterion, "dry_run": True}
    if criterion != "magnitude":
        options["data"] = [x]
    if criterion == "taylor":
        options["loss"] = lambda model, batch: model(batch).square().mean()
    plan = engine.prune(model, example_inputs=x, **options).plan
    if "data" in options:
        options["data"] = [moved(x, "cuda")]
    on_device = engine.prune(copy.deepcopy(model).cuda(), example_inputs=moved(x, "cuda"), **options).plan
    assert on_device.to_json() == plan.to_json()


@pytest.mark.parametrize("kind", NETS)
def test_checkpoints_cross_devices(kind, tmp_path):
    """Saved on the device, loaded on the CPU, and the other way round, bit for bit."""
    make, batch = NETS[kind]
    fresh, x = make(), batch()
    model = copy.deepcopy(fresh).cuda()
    engine.prune(model, example_inputs=moved(x, "cuda"), compensate="mean", data=[moved(x, "cuda")]).save(
        tmp_path / "half.safetensors"
    )
    wanted = model.state_dict()
    for device in "cpu", "cuda":
        loaded = engine.load(tmp_path / "half.safetensors", copy.deepcopy(fresh).to(device)).state_dict()
        assert all(torch.equal(loaded[name].cpu(), wanted[name].cpu()) for name in wanted)
        assert {tensor.device.type for tensor in loaded.values()} == {device}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    """A model in half precision, and one under autocast."""
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 3)).cuda().eval()
    x = torch.randn(2, 3, 9, 9, device="cuda")
    with torch.autocast("cuda", dtype):
        engine.prune(net, example_inputs=x)
    assert net[0].weight.dtype == torch.float32 and net[0].out_channels == 8
    net.to(dtype)
    engine.prune(net, example_inputs=x.to(dtype))
    assert net[0].weight.dtype == dtype and net[0].out_channels == 4
    assert net(x.to(dtype)).shape == (2, 8, 5, 5)


def test_a_model_on_two_devices():
    """Layers may live in different places, with the hand-over in the forward."""

    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(6, 16), nn.Linear(16, 4).cuda()

        def forward(self, x):
            return self.second(self.first(x).relu().cuda())

    model, x = Split().eval(), torch.randn(3, 6)
    plan = engine.analyze(model, x).choose(ratio=0.5, criterion="random")
    oracle.check(model, x, plan, tolerance=1e-5)
    engine.prune(model, example_inputs=x)
    assert model.first.weight.shape == (8, 6) and model.second.weight.shape == (4, 8)
    assert model.first.weight.device.type == "cpu" and model.second.weight.device.type == "cuda"


def test_pruning_returns_the_memory():
    """Afterwards the device holds no more than the pruned model."""
    model = nn.Sequential(*(nn.Linear(1024, 1024) for _ in range(9))).cuda()
    x = torch.randn(1, 1024, device="cuda")
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    result = engine.prune(model, example_inputs=x)
    freed = 4 * (result.before - result.after)
    del result
    assert torch.cuda.memory_allocated() <= before - freed + 2**16


def test_weights_stay_on_the_device():
    """No large tensor is copied to the host on the way."""
    model = nn.Sequential(*(nn.Linear(512, 512) for _ in range(5))).cuda()
    x = torch.randn(1, 512, device="cuda")
    with torch.profiler.profile(activities=list(torch.profiler.supported_activities())) as profile:
        engine.prune(model, example_inputs=x)
    copied = [event for event in profile.events() if event.name.startswith("Memcpy DtoH")]
    assert copied, "the profile shows no copies at all"
    moved_bytes = sum(event.self_device_time_total for event in copied)
    # Scores of slots are few numbers each: the microseconds of what is copied are those of kilobytes.
    assert moved_bytes < 2000, [event.name for event in copied]
