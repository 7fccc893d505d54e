"""Whatever modes of torch the caller is in, the plan is the same, and so are the modes afterwards."""

from contextlib import contextmanager

import pytest
import torch
from oracle import distance, run
from prunus import PlanError, TraceError, engine
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

X = torch.linspace(-1, 1, 2 * 3 * 4 * 4).view(2, 3, 4, 4)
LABELS = torch.tensor([0, 1])


class Net(nn.Module):
    """It writes into what it has computed, and into a buffer."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 3)
        self.register_buffer("runs", torch.zeros(1))

    def forward(self, x):
        self.runs += 1
        x = F.relu_(self.norm(self.a(x)))
        x = x + self.b(x).relu_()
        x[:, :, 0] *= 2.0
        return self.head(x.mul_(0.5).mean((2, 3)))


def net():
    torch.manual_seed(0)
    return Net().eval()


class Passing(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


class PassingOn(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


@contextmanager
def setting(put, value, before):
    put(value)
    try:
        yield
    finally:
        put(before)


MODES = {
    "inference": torch.inference_mode,
    "no_grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "double": lambda: setting(torch.set_default_dtype, torch.float64, torch.float32),
    "half": lambda: setting(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "on meta": lambda: torch.device("meta"),
    "default meta": lambda: setting(torch.set_default_device, "meta", None),
    "deterministic": lambda: setting(torch.use_deterministic_algorithms, True, False),
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "functions": Passing,
    "operators": PassingOn,
    "no functions": torch._C.DisableTorchFunction,
}
OPTIONS = {
    "magnitude": {},
    "taylor": {
        "criterion": "taylor",
        "data": [(X, LABELS)],
        "loss": lambda model, batch: F.cross_entropy(model(batch[0]).float(), batch[1]),
    },
    "lstsq": {"data": [X], "compensate": "lstsq"},
}


def modes_now():
    return (
        torch.is_inference_mode_enabled(),
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_anomaly_enabled(),
        torch._C._is_torch_function_all_disabled(),
        torch._C._len_torch_function_stack(),
        torch._C._len_torch_dispatch_stack(),
    )


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("mode", MODES)
def test_the_plan_is_that_of_no_mode(mode, option):
    """The model can be trained afterwards, and the caller is in the mode as before."""
    plain = engine.prune(net(), example_inputs=X, **OPTIONS[option]).plan
    if mode == "autocast" and option == "taylor":
        plain = None  # its gradients are those of autocast
    model, whole = net(), net()
    with MODES[mode]():
        before = modes_now()
        result = engine.prune(model, example_inputs=X, **OPTIONS[option])
        assert modes_now() == before
    assert plain is None or result.plan.groups == plain.groups
    assert (model.a.out_channels, model.runs.item()) == (4, 0)
    if option != "lstsq":
        with engine.mask(whole, result.plan):
            assert distance(run(model, X), run(whole, X)) < 1e-5
    model(X).sum().backward()
    for parameter in model.parameters():
        assert parameter.requires_grad and not parameter.is_inference()
        assert parameter.grad.shape == parameter.shape and parameter.device.type == "cpu"


def test_inputs_and_data_made_in_inference_mode_will_do():
    """They are copied where they could not be used."""
    model = net()
    with torch.inference_mode():
        x = X.clone()
        result = engine.prune(model, example_inputs=x, **{**OPTIONS["taylor"], "data": [(x, LABELS)]})
    assert result.model.a.out_channels == 4


def test_a_model_made_in_inference_mode_is_pruned_there():
    """Its tensors can be written into nowhere else, so that its forward runs there."""
    with torch.inference_mode():
        model = net()
    whole = net()
    result = engine.prune(model, example_inputs=X)
    assert model.b.weight.shape == (4, 4, 1, 1)
    with torch.inference_mode():
        output = model(X)
    with engine.mask(whole, result.plan):
        assert distance([output.clone()], run(whole, X)) < 1e-5
    with pytest.raises(PlanError, match="make the model outside of it"):
        engine.prune(model, example_inputs=X, **OPTIONS["taylor"])


def test_a_forward_that_enters_inference_mode_itself_is_seen():
    """What it changes in place counts, though nothing there counts changes."""

    class Entering(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)

        @torch.inference_mode()
        def forward(self, x):
            x = self.a(x)
            view = x.flatten(2)
            view.add_(1.0)
            return self.head(self.b(x))

    model, whole = Entering(), Entering()
    whole.load_state_dict(model.state_dict())
    result = engine.prune(model, example_inputs=X)
    exact = {group.name: group.exact for group in result.graph.groups}
    assert len(result.plan.groups["b.out"]) == 4 and exact["b.out"]
    with engine.mask(whole, result.plan):
        same = distance(run(model, X), run(whole, X)) < 1e-5
    assert same or not exact["a.out"]


def test_a_forward_that_fails_in_a_mode_of_the_caller_is_told_of_it():
    """A model that was not made for the default device fails there with or without prunus."""

    class Made(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 4)

        def forward(self, x):
            return self.a(x) + torch.zeros(4)

    model = Made()
    with (
        torch.device("meta"),
        pytest.raises(TraceError, match="modes of the caller: the default device meta"),
    ):
        engine.analyze(model, torch.ones(1, 4, device="cpu"))


INSIDE = {
    "torch.func": lambda call: torch.func.vmap(lambda x: call() and x)(X),
    "torch.func, such": lambda call: torch.func.grad(lambda x: (call(), x.sum())[1])(X),
    "torch.jit.trace": lambda call: torch.jit.trace(lambda x: (call(), x + 1)[1], (X,)),
    "torch.compile": lambda call: torch.compile(lambda x: (call(), x + 1)[1], backend="eager")(X),
    "FakeTensorMode": lambda call: FakeTensorMode().__torch_dispatch__ and _among_fakes(call),
}


def _among_fakes(call):
    with FakeTensorMode():
        call()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("place", INSIDE)
def test_where_prunus_cannot_compute_it_says_so(place):
    """One error names the place, and the model is as it was."""
    model = net()
    with pytest.raises(TraceError, match=f"inside of.*{place}"):
        INSIDE[place](lambda: engine.prune(model, example_inputs=X))
    assert model.a.out_channels == 8 and modes_now() == (False, True, *modes_now()[2:])


def test_a_forward_that_is_traced_cannot_prune():
    """Neither itself nor another model."""

    class Pruning(nn.Sequential):
        def forward(self, x):
            engine.prune(net(), example_inputs=X)
            return super().forward(x)

    with pytest.raises(TraceError, match="calls prunus itself"):
        engine.prune(Pruning(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1)), example_inputs=X)
