"""A net to wrap, what can be asked of it, and how others hold its tensors."""

from operator import attrgetter

import pytest
import torch
from prunus import engine
from torch import Tensor, nn


class Net(nn.Module):
    """Two hidden layers in one part of the model, and a head."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 24), nn.ReLU())
        self.head = nn.Linear(24, 8)

    def forward(self, x):
        return self.head(self.body(x))


def example():
    return torch.randn(4, 16)


def mask(model, plan):
    with engine.mask(model, plan):
        pass


PLAN = engine.Plan(tensors={"body.0.weight": {0: [0, 1]}})
OPERATIONS = {
    "analyze": lambda model: engine.analyze(model, example()),
    "guessing": engine.analyze,
    "trace": lambda model: engine.trace(model, example()),
    "cost": lambda model: engine.cost(model, example()),
    "prune": lambda model: engine.prune(model, example_inputs=example(), ratio=0.5),
    "budget": lambda model: engine.prune(model, example_inputs=example(), params=0.5),
    "apply": lambda model: engine.apply(model, PLAN),
    "mask": lambda model: mask(model, PLAN),
    "schedule": lambda model: engine.Schedule(model, example_inputs=example()),
    "recalibrate": lambda model: engine.recalibrate(model, [example()]),
}


# --- as others hold its tensors ----------------------------------------------------------------------------


def named(package, name, base, **own):
    """A class as if it were of a package that need not be installed."""
    return type(name, (base,), {"__module__": package, **own})


def with_mark(mark, value, of="body.0.weight"):
    """A model on which another library has left an attribute."""

    def make():
        net = Net()
        setattr(attrgetter(of)(net), mark, value)
        return net

    return make


def with_weight(kind):
    """A model of which one parameter is of another kind."""

    def make():
        net = Net()
        net.body[2].weight = kind(net.body[2].weight.data)
        return net

    return make


def with_layer(layer):
    """A model of which one layer is another."""

    def make():
        net = Net()
        net.body[2] = layer()
        return net

    return make


class Hook:
    """As much of a hook of accelerate or diffusers as is looked at."""

    def __init__(self, **own):
        self.__dict__.update(own)


def subclass(package, name):
    """Makes parameters of a class of such a name."""
    kind = named(package, name, Tensor)
    return lambda data: nn.Parameter(data.as_subclass(kind))


class Wrapping(Tensor):
    """A tensor that holds another, as quantisers make them."""

    @staticmethod
    def __new__(cls, inner):
        made = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        made.inner = inner
        return made

    def __init__(self, inner):
        pass

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        opened = [one.inner if isinstance(one, cls) else one for one in args]
        result = function(*opened, **(kwargs or {}))
        return cls(result) if function is torch.ops.aten.detach.default else result


def packed():
    """A layer as GPTQ and AWQ have it."""
    layer = nn.Linear(32, 24)
    layer.register_buffer("qweight", torch.zeros(4, 24, dtype=torch.int32))
    return layer


def packed_by_torch():
    return pytest.importorskip("torch.ao.nn.quantized.dynamic").Linear(32, 24)


def prepared():
    quantization = pytest.importorskip("torch.ao.quantization")
    net = Net().train()
    net.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    return quantization.prepare_qat(net)


def observed():
    quantization = pytest.importorskip("torch.ao.quantization")
    net = Net().eval()
    net.qconfig = quantization.get_default_qconfig("fbgemm")
    return quantization.prepare(net)


def graphed():
    """As `torch.cuda.make_graphed_callables` leaves a model."""
    net = Net()

    def make_graphed_callables(func):
        def new_fwd(*args):
            return func(*args)

        return new_fwd

    make_graphed_callables.__qualname__ = "make_graphed_callables"
    net.forward = make_graphed_callables(net.forward)
    net.forward.__qualname__ = "make_graphed_callables.<locals>.make_graphed_forward.<locals>.new_fwd"
    return net
