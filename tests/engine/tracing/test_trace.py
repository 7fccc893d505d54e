"""The trace: what it records, and that it leaves nothing behind."""

import gc
import random
import weakref
from collections import namedtuple
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy
import pytest
import torch
from prunus.adapters.submodules import MODULE_STATE
from prunus.engine.tracing.forwards import call_arguments
from prunus.engine.tracing.size_int import SizeInt
from prunus.engine.tracing.trace import trace
from prunus.errors import TraceError
from torch import nn
from torch.nn import functional as F

Pair = namedtuple("Pair", "height width")


def names(record):
    return [call.name.rpartition(".")[2] for call in record.calls]


def make(forward, **attributes):
    """A module with these attributes and this forward, which is given the module and the inputs."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            for name, value in attributes.items():
                setattr(self, name, value)

    Net.forward = forward
    return Net()


# What is recorded


def test_calls_know_arguments_module_and_source():
    """A call has its arguments by name, its module and the user's source line."""

    def forward(self, x):
        return self.body(x).relu()

    record = trace(make(forward, body=nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())), torch.randn(2, 3, 8, 8))
    assert names(record) == ["conv2d", "relu", "relu"]
    conv, inner, outer = record.calls
    assert conv.arguments["input"] is record.inputs[0]
    assert conv.arguments["weight"] is record.tensors["body.0.weight"]
    assert (conv.module, conv.module_class) == ("body.0", nn.Conv2d)
    assert conv.source.file == __file__
    assert conv.source.text == "return self.body(x).relu()"
    assert (inner.module, outer.module) == ("body.1", "")
    assert record.outputs == list(outer.results)
    assert record.output_shapes == ((2, 4, 6, 6),)
    assert record.inputs[0].name == "x"
    assert list(record.network.predecessors(outer)) == [inner.results[0]]
    assert record.network.has_edge(record.tensors["body.0.bias"], conv)


def test_a_model_of_torch_modules_alone_has_torch_sources():
    """Where the user wrote no frame, the line inside the module is shown, not the caller of the trace."""
    record = trace(nn.Sequential(nn.Linear(2, 2)), torch.randn(1, 2))
    assert record.calls[0].source.file.endswith("linear.py")


def test_shapes_answer_with_their_axes():
    """`shape`, `size` and `numel` remember the axis, also through slicing, unpacking and stars."""

    def forward(self, x):
        b, c, *_ = x.shape
        y = x.view(b, self.heads, c // self.heads, *x.shape[2:])
        return y.reshape(x.size(0), x.size(-1) * x.size()[1], -1).view(x.numel())

    record = trace(make(forward, heads=2), torch.randn(2, 4, 3))
    view, reshape, flat = record.calls
    assert [str(size.expr) for size in view.arguments["shape"]] == [
        "x[0]",
        "heads",
        "(x[1] // heads)",
        "x[2]",
    ]
    assert [str(getattr(size, "expr", size)) for size in reshape.arguments["shape"]] == [
        "x[0]",
        "(x[2] * x[1])",
        "-1",
    ]
    assert str(flat.arguments["shape"][0].expr) == "((x[0] * x[1]) * x[2])"


def test_in_place_calls_make_versions():
    """After an in-place call or an item assignment the tensor is a new value, whose call read the old one."""

    def forward(self, x):
        y = x + 1
        y += x
        y[:, 0] = 0
        F.relu(y, inplace=True)
        torch.add(y, 1, out=y)
        return y

    record = trace(make(forward), torch.randn(2, 3))
    assert names(record) == ["add", "add_", "__setitem__", "relu", "add"]
    assert [call.inplace for call in record.calls] == [False, True, True, True, True]
    for before, after in zip(record.calls, record.calls[1:], strict=False):
        assert next(iter(after.arguments.values())) is before.results[0]
    assert record.outputs == list(record.calls[-1].results)


def test_calls_that_return_their_argument_pass_it_on():
    """`contiguous` of a contiguous tensor and the like are calls, though nothing changed."""

    def forward(self, x):
        return F.dropout(x.contiguous().float(), 0.5, self.training).to(x.device)

    record = trace(make(forward), torch.randn(2, 3))
    assert names(record) == ["contiguous", "float", "dropout", "to"]
    assert not any(call.inplace for call in record.calls)
    assert record.outputs == list(record.calls[-1].results)


def test_results_in_containers_are_listed_in_order():
    """Each tensor of a tuple result is a value of the one call."""

    def forward(self, x):
        low, high = x.chunk(2, 1)
        values, _ = high.max(1)
        return {"low": low, "rest": (values, 3)}

    record = trace(make(forward), torch.randn(2, 4))
    chunk, maximum = record.calls
    assert [value.shape for value in chunk.results] == [(2, 2), (2, 2)]
    assert record.outputs == [chunk.results[0], maximum.results[0]]


def test_tied_parameters_have_one_name():
    """A tensor under several names is one value; the other names lead to the first."""
    embedding, head = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
    head.weight = embedding.weight
    record = trace(nn.Sequential(embedding, head), torch.tensor([[1, 2]]))
    assert list(record.tensors) == ["0.weight"]
    assert record.aliases == {"1.weight": "0.weight"}
    assert record.calls[1].arguments["weight"] is record.calls[0].arguments["weight"]


def test_a_module_called_twice_keeps_its_first_name():
    """Shared modules run under one path, and their parameters are one value."""
    layer = nn.Linear(3, 3)
    record = trace(nn.Sequential(layer, nn.ReLU(), layer), torch.randn(1, 3))
    first, _, second = record.calls
    assert (first.module, second.module) == ("0", "0")
    assert first.arguments["weight"] is second.arguments["weight"]


def test_kinds_of_tensors():
    """Parameters, buffers, plain attributes and tensors of nobody are told apart."""
    outside = torch.ones(3)

    def forward(self, x):
        return x * self.scale + self.shift * outside

    net = make(forward, scale=nn.Parameter(torch.ones(3)), shift=torch.ones(3))
    net.register_buffer("unused", torch.ones(1))
    record = trace(net, torch.randn(1, 3))
    assert {name: value.kind for name, value in record.tensors.items()} == {
        "scale": "parameter",
        "shift": "attribute",
    }
    (stranger,) = {value for call in record.calls for value in call.values if value.kind == "constant"}
    assert record.calls[1].values == [record.tensors["shift"], stranger]


def test_a_part_that_cannot_be_seen_is_one_call():
    """What TorchScript computes comes from the scripted module, as far as anyone can tell."""

    class Inner(nn.Module):
        def forward(self, x):
            return x + 1

    record = trace(nn.Sequential(torch.jit.script(Inner()), nn.ReLU()), torch.randn(1, 3))
    unseen, relu = record.calls
    assert (unseen.module, unseen.values) == ("0", record.inputs)
    assert relu.values == list(unseen.results)


@dataclass(frozen=True)
class Config:
    width: int = 6
    sizes: tuple = (2, 3)
    inner: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(depth=1, names=["a"]))


def test_integers_of_modules_in_containers_and_configs():
    """Integers in tuples, lists, dicts and on config objects know path, name and key."""
    attributes = {
        "pair": Pair(2, 3),
        "nested": [{"a": (1, 6)}],
        "config": Config(),
        "flag": True,
        "ratio": 1.0,
    }

    def forward(self, x):
        h, w = self.pair
        x = x.view(h, w).reshape(self.nested[0]["a"])
        assert type(self.flag) is bool and self.config.width == 6
        return x.view(self.config.sizes[0], -1, self.config.inner.depth)

    record = trace(nn.Sequential(make(forward, **attributes)), torch.randn(6))
    shapes = [[str(getattr(size, "expr", size)) for size in call.arguments["shape"]] for call in record.calls]
    assert shapes == [
        ["0.pair[0]", "0.pair[1]"],
        ["0.nested[0]['a'][0]", "0.nested[0]['a'][1]"],
        ["0.config.sizes[0]", "-1", "0.config.inner.depth"],
    ]
    assert record.attributes == {
        ("0", "pair", (0,)): 2,
        ("0", "pair", (1,)): 3,
        ("0", "nested", (0, "a", 0)): 1,
        ("0", "nested", (0, "a", 1)): 6,
        ("0", "config.width", None): 6,
        ("0", "config.sizes", (0,)): 2,
        ("0", "config.sizes", (1,)): 3,
        ("0", "config.inner.depth", None): 1,
    }


def test_a_shared_config_belongs_to_the_first_module():
    """An object that several modules hold is traced once, under the first path."""
    config = SimpleNamespace(width=3)

    def forward(self, x):
        return x.view(-1, self.config.width)

    record = trace(nn.Sequential(make(forward, config=config), make(forward, config=config)), torch.randn(6))
    assert list(record.attributes) == [("0", "config.width", None)]
    assert str(record.calls[1].arguments["shape"][1].expr) == "0.config.width"


def test_conditions_are_recorded():
    """Comparisons in the forward are conditions; those inside torch are not."""

    def forward(self, x):
        if x.shape[1] != self.width:
            raise ValueError
        if self.classes:
            x = F.layer_norm(x, (self.width,))
        return x

    record = trace(make(forward, width=4, classes=3), torch.randn(2, 4))
    seen = [(str(c.left), c.symbol, str(c.right), c.outcome) for c in record.conditions]
    assert seen == [("x[1]", "!=", "width", False), ("classes", "!=", "0", True)]
    assert record.conditions[0].source.text == "if x.shape[1] != self.width:"


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        return x * torch.sigmoid(x * scale)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


@torch.library.custom_op("prunus_trace_tests::double_into", mutates_args=("out", "count"))
def double_into(out: torch.Tensor, x: torch.Tensor, count: torch.Tensor) -> None:
    """As many kernels do, it returns nothing."""
    out.copy_(2 * x)
    count.add_(1)


def test_an_operator_that_returns_nothing_makes_what_it_writes():
    """Each tensor that it changes is a new value from then on."""

    def forward(self, x):
        out, count = torch.empty_like(x), x.new_zeros(1)
        double_into(out, x, count)
        return out + 1, count

    record = trace(make(forward), torch.randn(2, 3))
    made = next(call for call in record.calls if call.name.endswith("double_into"))
    assert made.inplace and [value.shape for value in made.results] == [(2, 3), (1,)]
    assert record.calls[-1].values == [made.results[0]]
    assert record.outputs[1] is made.results[1]


def test_opaque_modules_are_one_call():
    """A module or function with a rule of its own is not looked into; its parameters are known."""

    def forward(self, x):
        return Swish.apply(self.layer(x), self.width)

    net = make(forward, layer=nn.Sequential(nn.Linear(3, 3), nn.ReLU()), width=2)
    record = trace(net, torch.randn(1, 3), opaque=frozenset({nn.Sequential, Swish}))
    layer, swish = record.calls
    assert (layer.target, layer.module, layer.module_class) == (nn.Sequential, "layer", nn.Sequential)
    own = {f"self.0.{name}": record.tensors[f"layer.0.{name}"] for name in ("weight", "bias")}
    assert layer.arguments == {"input": record.inputs[0], **own}
    assert list(record.tensors) == ["layer.0.weight", "layer.0.bias"]
    assert swish.target is Swish
    assert swish.arguments["x"] is layer.results[0]
    assert str(swish.arguments["scale"].expr) == "width"
    assert names(trace(net, torch.randn(1, 3))) == ["linear", "relu", "mul", "sigmoid", "mul"]


def test_lowered_calls_are_recorded_as_what_they_stand_for():
    """A replacement runs with recording on; a call of the target inside it is an ordinary call."""

    def gelu(x, approximate="none"):
        return F.gelu(x * 1) if x.shape[0] else x

    def forward(self, x):
        return F.gelu(x) + 1

    record = trace(make(forward), torch.randn(2, 3), lower={F.gelu: gelu})
    assert names(record) == ["mul", "gelu", "add"]
    assert len(record.conditions) == 1


# Inputs


INPUTS = [
    (torch.ones(2, 3), ["x"]),
    ((torch.ones(2, 3), torch.ones(2, 3)), ["x", "mask"]),
    ({"x": torch.ones(2, 3), "mask": None}, ["x"]),
    (((torch.ones(2, 3),), {"mask": torch.ones(2, 3)}), ["x", "mask"]),
    (((torch.ones(2, 3),), {"mask": {"a": [torch.ones(1)]}}), ["x", "mask.a.0"]),
]


@pytest.mark.parametrize("inputs, expected", INPUTS)
def test_forms_of_inputs(inputs, expected):
    """A tensor, a tuple, a dict or the pair of both; a batch of two is still one tensor."""

    def forward(self, x, mask=None):
        return x * mask if isinstance(mask, torch.Tensor) else x + 1

    record = trace(make(forward), inputs)
    assert [value.name for value in record.inputs] == expected
    assert record.output_shapes == ((2, 3),)


@pytest.mark.parametrize("inputs", [None, 3, "x", [torch.ones(1)]])
def test_other_inputs_are_refused(inputs):
    """Anything else is an error that lists the forms."""
    with pytest.raises(TraceError, match="pair"):
        call_arguments(inputs)


# What is left behind: nothing


def snapshot(item, seen=None):
    """Everything reachable from a model's attributes, with identities, types and contents."""
    seen = set() if seen is None else seen
    if isinstance(item, torch.Tensor):
        gradient = None if item.grad is None else item.grad.tolist()
        return type(item), id(item), item.dtype, item.requires_grad, item.tolist(), gradient
    if isinstance(item, (int, float, str, type(None))):
        return type(item), id(item), item
    if id(item) in seen:
        return id(item)
    seen.add(id(item))
    if isinstance(item, dict):
        return type(item), id(item), [(key, type(key), snapshot(part, seen)) for key, part in item.items()]
    if isinstance(item, (list, tuple)):
        return type(item), id(item), [snapshot(part, seen) for part in item]
    return type(item), id(item), snapshot(getattr(item, "__dict__", None), seen)


def surroundings(model):
    return (
        snapshot(model),
        torch.get_rng_state().tolist(),
        random.getstate(),
        numpy.random.get_state()[1].tolist(),
        torch.is_grad_enabled(),
        torch.backends.mha.get_fastpath_enabled(),
        nn.Module.__call__,
        vars(torch.autograd.Function).get("apply"),
    )


def busy_forward(self, x):
    """Does everything that could leave something behind."""
    self.stage(0)
    self.table.mul_(2)
    random.random(), numpy.random.rand(), torch.rand(1)
    self.stage(1)
    x.add_(1)
    x = self.layers[0](x)
    self.stage(2)
    x = self.layers[1](x) + self.position + self.table[: self.sizes[0]].sum()
    with torch.enable_grad():
        x = self.attention(x[None], x[None], x[None])[0][0]
    self.stage(3)
    return x.view(x.shape[0], self.config.width, self.options["a"][0])


def busy_model():
    def stage(now):
        if now == net.fail_at:
            raise RuntimeError("on purpose")

    net = make(
        busy_forward,
        layers=nn.ModuleList([nn.Linear(4, 6), nn.BatchNorm1d(6)]),
        attention=nn.MultiheadAttention(6, 2),
        position=torch.randn(6),
        sizes=(2, 1000),
        pair=Pair(1000, 2000),
        options={"a": [1, 2000], "b": {"c": torch.Size([3, 4])}},
        config=SimpleNamespace(width=6, inner=SimpleNamespace(depth=70000)),
        fail_at=None,
    )
    vars(net)["stage"] = stage
    net.register_buffer("table", torch.randn(5), persistent=False)
    net.layers[0].register_forward_hook(lambda *_: None)
    net.layers[1].eval()
    net.layers[0].weight.requires_grad_(False)
    net.layers[0].bias.grad = torch.ones(6)
    return net


@pytest.mark.parametrize("fake", [False, True])
@pytest.mark.parametrize("fail_at", [None, 0, 1, 2, 3])
def test_nothing_is_left_behind(fail_at, fake):
    """Attributes, contents, flags, hooks, gradients and random states are as before, whatever happened."""
    net, x = busy_model(), torch.randn(3, 4)
    net.fail_at = fail_at
    before, given = surroundings(net), x.clone()
    if fail_at is None:
        record = trace(net, x, fake=fake)
        assert record.untracked == []
        assert "table" in record.tensors and "position" in record.tensors
    else:
        with pytest.raises(TraceError, match="on purpose"):
            trace(net, x, fake=fake)
    assert surroundings(net) == before
    assert torch.equal(x, given)


def test_the_result_is_that_of_an_undisturbed_model():
    """After a trace the model computes what it did before."""
    net, x = busy_model().eval(), torch.randn(3, 4)
    twin = busy_model().eval()
    twin.load_state_dict(net.state_dict())
    twin.position, twin.table = net.position, net.table.clone()
    trace(net, x.clone())
    assert torch.equal(net(x.clone()), twin(x.clone()))


def test_what_the_forward_wrote_is_put_back():
    """Attributes that the forward sets, and containers that it fills, are as they were; new ones are gone."""

    def forward(self, x):
        self.seen = x.shape
        self.count = self.count + 1
        self.log.append((x.size(0), self.width))
        self.masks[x.shape[0], self.width] = {self.width}
        self.size = max(x.shape[1], self.size)
        return x + 1

    net = make(forward, count=0, log=[], masks={}, width=4, size=2)
    trace(net, torch.randn(3, 4))
    trace(net, torch.randn(3, 4))
    assert (net.count, net.size, net.width, net.log, net.masks) == (0, 2, 4, [], {})
    assert not hasattr(net, "seen")


def test_a_cached_tensor_and_its_size_go_back_together():
    """A module that files a tensor with its length is put back as a whole, so that they still agree."""

    def forward(self, x):
        if x.shape[0] > self.length:
            self.length, self.cache = x.shape[0], torch.arange(x.shape[0])
        return x * self.cache[: x.shape[0], None]

    for fake in (False, True):
        net = make(forward, length=0)
        net.register_buffer("cache", torch.arange(0))
        trace(net, torch.randn(3, 4), fake=fake)
        assert (net.length, net.cache.shape) == (0, (0,))
        assert net(torch.randn(3, 4)).shape == (3, 4)


def test_a_tensor_cached_in_a_container_is_taken_out():
    """LeViT files its attention bias in a dict; a trace must not leave a bias there that pruning misses."""

    def forward(self, x):
        if x.device not in self.cache:
            self.cache[x.device] = self.bias + 1
            self.log.append((self.bias * 2,))
        return x + self.cache[x.device]

    for fake in (False, True):
        net = make(forward, bias=nn.Parameter(torch.ones(4)), cache={}, log=[1000])
        cache, log = net.cache, net.log
        trace(net, torch.randn(3, 4), fake=fake)
        assert net.cache is cache and cache == {}
        assert net.log is log and log == [1000] and type(log[0]) is int


def test_no_activation_is_kept_alive():
    """The trace holds shapes and names, no tensors."""
    seen = []

    def forward(self, x):
        y = x + 1
        seen.extend((weakref.ref(x), weakref.ref(y)))
        return y * 2

    record = trace(make(forward), torch.randn(2, 3))
    gc.collect()
    assert [reference() for reference in seen] == [None, None]
    assert len(record.calls) == 2


# Errors


def test_an_error_names_module_and_line():
    """A forward that fails is reported with module, call, source line and advice."""

    def forward(self, x):
        return torch.cat([x, x[0]])

    with pytest.raises(TraceError) as caught:
        trace(nn.Sequential(nn.Identity(), make(forward)), torch.randn(2, 3))
    message = str(caught.value)
    for part in (
        "in 1, call torch.cat",
        "test_trace.py",
        "return torch.cat([x, x[0]])",
        "check example_inputs",
    ):
        assert part in message
    assert caught.value.__cause__ is not None


def test_lazy_parameters_are_an_error():
    """A model that does not know its sizes yet is refused."""
    with pytest.raises(TraceError, match="lazy"):
        trace(nn.Sequential(nn.LazyLinear(3)), torch.randn(2, 3))


# Fake tensors


def test_a_meta_model_is_traced_on_fake_tensors():
    """The calls are those of the real model; the parameters stay on the meta device."""
    with torch.device("meta"):
        net = nn.Sequential(
            nn.Linear(3, 100_000), nn.ReLU(), nn.Linear(100_000, 100_000), nn.LSTM(100_000, 4)
        )
    weight = net[0].weight
    record = trace(net, torch.randn(2, 3), fake=True)
    assert names(record)[:3] == ["linear", "relu", "linear"] and "lstm" in names(record)
    assert record.untracked == []
    assert net[0].weight is weight and weight.is_meta
    assert all(tensor is net[3].weight_ih_l0 for tensor in net[3]._flat_weights[:1])


def test_data_dependence_is_explained():
    """What fake tensors cannot decide is an error that names call and line, and the way out."""

    def forward(self, x):
        return x + 1 if x.sum() > 0 else x

    with pytest.raises(TraceError) as caught:
        trace(make(forward), torch.randn(2, 3), fake=True)
    message = str(caught.value)
    assert "depends on data" in message and "without fake=True" in message
    assert "return x + 1 if x.sum() > 0 else x" in message and "__bool__" in message


def test_einops_does_not_answer_from_its_cache():
    """Two rearrangements of equal shape have each their own sizes."""
    einops = pytest.importorskip("einops")

    def forward(self, x, y):
        return einops.rearrange(x, "b (h d) -> b h d", h=2), einops.rearrange(y, "b (h d) -> b h d", h=2)

    record = trace(make(forward), (torch.randn(2, 4), torch.randn(2, 4)))
    sizes = [
        size for call in record.calls for size in call.arguments.get("shape", ()) if type(size) is SizeInt
    ]
    assert any("y[" in str(size.expr) for size in sizes)
    assert all(
        type(number) is int for name, number in vars(nn.Linear(2, 3)).items() if name not in MODULE_STATE
    )
