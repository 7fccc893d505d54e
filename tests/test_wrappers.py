"""Models whose tensors somebody else holds: wrappers, shards, offloading, quantisers."""

import gc
import re

import pytest
import torch
import torch.distributed as dist
import torch.utils.mkldnn
from oracle import check
from prunus import PlanError, TraceError, VerificationError, engine
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel


class Net(nn.Module):
    """Two hidden layers in one part of the model, and a head."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 24), nn.ReLU())
        self.head = nn.Linear(24, 8)

    def forward(self, x):
        return self.head(self.body(x))


@pytest.fixture
def process_group():
    """torch.distributed with this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


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


# --- DistributedDataParallel -------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_wrapper_is_refused(process_group, operation):
    """What is in it is to be pruned, and wrapped again."""
    wrapper = DistributedDataParallel(Net())
    with pytest.raises(PlanError, match=r"the model is wrapped in Dist.*\n.*engine\.prune\(ddp\.module"):
        OPERATIONS[operation](wrapper)
    assert wrapper(example()).shape == (4, 8)
    assert wrapper.module.body[0].out_features == 32


def test_a_wrapper_inside_is_named(process_group):
    """A trainer's own module may hold one."""
    system = nn.ModuleDict({"net": DistributedDataParallel(Net())})
    with pytest.raises(PlanError, match=r"^net is wrapped in DistributedDataParallel"):
        engine.analyze(system, example())


@pytest.mark.parametrize("options", [{}, {"gradient_as_bucket_view": True}, {"static_graph": True}])
@pytest.mark.parametrize("part", ["all", "body"])
def test_the_old_wrapper_runs_no_more(process_group, options, part):
    """Whether the whole was pruned or a part; wrapped again, it trains on."""
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    wrapper = DistributedDataParallel(net, **options)
    train(wrapper, optimizer)
    pruned = net if part == "all" else net.body
    result = engine.prune(pruned, example_inputs=example(), optimizer=optimizer)
    assert result.plan.tensors and net.body[0].out_features == 16
    with pytest.raises(PlanError, match=r"was pruned, .*old sizes\nwrap the model again"):
        wrapper(example())
    train(DistributedDataParallel(net, **options), optimizer)
    assert net.body[0].weight.grad.shape == (16, 16)


def train(model, optimizer):
    for _ in range(2):
        optimizer.zero_grad()
        model(example()).square().mean().backward()
        optimizer.step()


def test_pruned_twice_it_says_it_once(process_group):
    """Also where a wrapper was found and told before."""
    net = Net()
    wrapper = DistributedDataParallel(net)
    for _ in range(2):
        engine.prune(net, example_inputs=example())
    assert len(wrapper._forward_pre_hooks) == 1


def test_a_wrapper_that_the_collector_does_not_show(process_group):
    """``gc.freeze`` is used in training loops."""
    net = Net()
    wrapper = DistributedDataParallel(net)
    gc.freeze()
    try:
        engine.prune(net, example_inputs=example())
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()
    with pytest.raises(PlanError, match="wrap the model again"):
        wrapper(example())


def test_a_checkpoint_in_a_wrapped_model(process_group, tmp_path):
    """Loading one changes sizes, too."""
    result = engine.prune(Net(), example_inputs=example())
    result.save(tmp_path / "half.safetensors")
    net = Net()
    wrapper = DistributedDataParallel(net)
    engine.load(tmp_path / "half.safetensors", net)
    with pytest.raises(PlanError, match="wrap the model again"):
        wrapper(example())


def test_a_wrapper_of_what_was_not_pruned_runs_on(process_group, monkeypatch):
    """One of another model, of a copy, of a model of which nothing went, or was put back."""
    net, other, average = Net(), Net(), torch.optim.swa_utils.AveragedModel(Net())
    wrappers = [DistributedDataParallel(one) for one in (net, other, average)]
    engine.prune(Net(), example_inputs=example())
    engine.prune(net, example_inputs=example(), dry_run=True)
    engine.prune(net, example_inputs=example(), ratio=0)

    def fails(model, graph):
        raise VerificationError("no")

    monkeypatch.setattr("prunus.adapters.apply.verify", fails)
    with pytest.raises(VerificationError):
        engine.prune(net, example_inputs=example())
    for wrapper in wrappers:
        assert wrapper(example()).shape == (4, 8)
        assert not wrapper._forward_pre_hooks


def test_nothing_is_searched_without_a_process_group(monkeypatch):
    """Looking at all objects takes a while."""

    def looks():
        raise AssertionError("all objects are looked at")

    monkeypatch.setattr(gc, "get_objects", looks)
    assert engine.prune(Net(), example_inputs=example()).plan.tensors


def test_replicated_by_hooks(process_group):
    """`replicate` leaves the model its class and its names."""
    replicate = pytest.importorskip("torch.distributed._composable.replicate").replicate
    net = replicate(Net())
    net(example())  # which makes the buckets
    for model in (net, net.body):
        with pytest.raises(PlanError, match="prune the model before `replicate`"):
            engine.prune(model, example_inputs=example())
    assert net.body[0].out_features == 32


# --- wrappers that are fine --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [DataParallel, torch.optim.swa_utils.AveragedModel, lambda net: torch.compile(net, backend="eager")],
    ids=["DataParallel", "AveragedModel", "compiled"],
)
def test_wrappers_that_hold_no_sizes(wrap):
    """They are pruned like any module."""
    model, x = wrap(Net()), example()
    plan = engine.prune(model, example_inputs=x, dry_run=True).plan
    assert len(plan.groups) == 2
    check(model, x, plan)


def test_an_averaged_model_takes_the_plan():
    """The copy of which training keeps the average is pruned by the plan of the model."""
    net = Net()
    average = torch.optim.swa_utils.AveragedModel(net)
    engine.apply(average.module, engine.prune(net, example_inputs=example()).plan)
    average.update_parameters(net)
    x = example()
    assert torch.equal(average(x), net(x))


def test_data_parallel_on_several_devices():
    """Its copies run beside each other, where no trace sees them."""
    model = DataParallel(Net())
    model.device_ids = [0, 1]
    with pytest.raises(PlanError, match=r"the model is wrapped in DataParallel.*\nprune its \.module"):
        engine.prune(model, example_inputs=example())


# --- shards, offloading, quantisers ------------------------------------------------------------------------


def sharded(net):
    return torch.distributed.fsdp.FullyShardedDataParallel(net, device_id=torch.device("cpu"))


def sharded_inside(net):
    sharded(net)
    return net


def sharded_with_parameters(net):
    wrapper = torch.distributed.fsdp.FullyShardedDataParallel(
        net, device_id=torch.device("cpu"), use_orig_params=True
    )
    return wrapper.module


def sharded_by_units(net):
    for unit in (net.body[0], net):
        torch.distributed.fsdp.fully_shard(unit)
    return net


def distributed(net):
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    return torch.distributed.tensor.distribute_module(net, mesh)


def tensor_parallel(net):
    parallel = torch.distributed.tensor.parallel
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    plan = {"body.0": parallel.ColwiseParallel(), "body.2": parallel.RowwiseParallel()}
    return parallel.parallelize_module(net, mesh, plan)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "shard",
    [sharded, sharded_inside, sharded_with_parameters, sharded_by_units, distributed, tensor_parallel],
    ids=lambda shard: shard.__name__,
)
def test_shards_are_refused_before_anything_runs(process_group, shard, operation):
    """A rank that holds a part of a tensor cannot slice it alone."""
    model = shard(Net())
    runs = []
    model.register_forward_pre_hook(lambda module, args: runs.append(module))
    text = r"(the model|body\.0\.weight) is (sharded by FSDP|spread over ranks as a DTensor)\nprune the whole"
    with pytest.raises(TraceError, match=text):
        OPERATIONS[operation](model)
    assert not runs


def named(package, name, base, **own):
    """A class as if it were of a package that need not be installed."""
    return type(name, (base,), {"__module__": package, **own})


def with_mark(mark, value, of="body.0.weight"):
    """A model on which another library has left an attribute."""

    def make():
        net = Net()
        owner, _, name = of.rpartition(".")
        found = (
            net.get_submodule(of)
            if name.isdigit() or name == "body"
            else getattr(net.get_submodule(owner), name)
        )
        setattr(found, mark, value)
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
    layer = nn.Linear(32, 24)
    layer.register_buffer("qweight", torch.zeros(4, 24, dtype=torch.int32))
    return layer


def observed_and_packed():
    return torch.ao.nn.quantized.dynamic.Linear(32, 24)


def graphed():
    net = Net()

    def make_graphed_callables(func):
        def new_fwd(*args):
            return func(*args)

        return new_fwd

    make_graphed_callables.__qualname__ = "make_graphed_callables"
    net.forward = make_graphed_callables(net.forward)
    net.forward.__qualname__ = "make_graphed_callables.<locals>.make_graphed_forward.<locals>.new_fwd"
    return net


REFUSED = {
    "zero 3": (
        with_mark("ds_id", 3),
        r"body\.0\.weight is partitioned by DeepSpeed\n.*deepspeed\.initialize",
    ),
    "zero 1": (with_mark("_hp_mapping", None), r"body\.0\.weight is partitioned by DeepSpeed"),
    "deepspeed": (
        lambda: named("deepspeed.runtime.engine", "DeepSpeedEngine", Net)(),
        "the model is partitioned by DeepSpeed",
    ),
    "megatron": (with_mark("tensor_model_parallel", True), r"body\.0\.weight is one rank's part"),
    "accelerate": (
        with_mark("_hf_hook", Hook(offload=True), of="body.0"),
        r"body\.0 is offloaded by accelerate.*\n.*remove_hook_from_module",
    ),
    "accelerate, several hooks": (
        with_mark("_hf_hook", Hook(hooks=(Hook(), Hook(offload=True))), of="body.0"),
        r"body\.0 is offloaded by accelerate",
    ),
    "diffusers": (
        with_mark("_diffusers_hook", Hook(hooks={"group_offloading": None}), of="body"),
        "body is offloaded by diffusers",
    ),
    "torchao": (
        with_weight(subclass("torchao.quantization.int8", "Int8Tensor")),
        r"body\.2\.weight is quantised by torchao\nprune the model as it was before",
    ),
    "bitsandbytes 8": (
        with_weight(subclass("bitsandbytes.nn.modules", "Int8Params")),
        r"body\.2\.weight is quantised by bitsandbytes\nprune",
    ),
    "bitsandbytes 4": (
        with_weight(subclass("bitsandbytes.nn.modules", "Params4bit")),
        r"body\.2\.weight is quantised by bitsandbytes",
    ),
    "transformers": (
        with_mark("hf_quantizer", object(), of="body"),
        r"body is quantised by trans.*\n.*dequantize",
    ),
    "GPTQ": (with_layer(packed), r"body\.2 is quantised: its weights are packed"),
    "torch.ao": (with_layer(observed_and_packed), r"body\.2 is quantised by torch: its weights are packed"),
    "mkldnn": (lambda: torch.utils.mkldnn.to_mkldnn(Net().eval()), r"body\.0 is packed by mkldnn"),
    "a graph on CUDA": (graphed, "the model is replayed as a CUDA graph"),
    "a tensor in a tensor": (
        with_weight(lambda data: nn.Parameter(Wrapping(data))),
        r"body\.2\.weight is a Wrapping, whose operations",
    ),
    "sparse": (
        with_weight(lambda data: nn.Parameter(data.to_sparse())),
        r"body\.2\.weight is of torch\.sparse_coo, which cannot be sliced\nprune .*ordinary parameters",
    ),
    "compressed sparse": (
        with_weight(lambda data: nn.Parameter(data.to_sparse_csr())),
        r"body\.2\.weight is of torch\.sparse_csr, which cannot be sliced",
    ),
    "exported": (
        lambda: torch.export.export(Net(), (example(),)),
        r"this is a program .*export.*\n.*\.module\(\)",
    ),
    "no module": (lambda: Net().state_dict(), r"a model is a torch\.nn\.Module, and this is a OrderedDict"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_holds_a_tensor_is_named_with_what_to_do(name):
    """One error before anything runs, whatever is asked for."""
    make, text = REFUSED[name]
    model = make()
    before = set(vars(model))
    for operation in OPERATIONS.values():
        with pytest.raises((TraceError, PlanError), match="^" + text) as caught:
            operation(model)
        assert len(str(caught.value).splitlines()) <= 2
    assert set(vars(model)) == before


@pytest.mark.parametrize(
    "make",
    [
        with_mark("_hf_hook", Hook(offload=False), of="body.0"),
        with_mark("_diffusers_hook", Hook(hooks={"layerwise_casting": None}), of="body"),
        with_mark("hf_quantizer", None, of="body"),
        with_mark("tensor_model_parallel", False),
        with_mark("note", "mine"),
        with_weight(subclass("mine", "Named")),
    ],
    ids=["hook", "skipping", "dequantised", "whole", "noted", "subclass"],
)
def test_what_only_looks_like_it_is_pruned(make):
    """The same attributes where they mean nothing, and tensors of a class of one's own."""
    model = make()
    result = engine.prune(model, example_inputs=example())
    assert len(result.plan.groups) == 2 and model.body[0].out_features == 16
    assert model(example()).shape == (4, 8)


# --- tensors that cannot be sliced but are no weights ------------------------------------------------------


class Neighbours(nn.Module):
    """A graph network with its neighbours in a sparse buffer, and mixed channels if `mixes`."""

    def __init__(self, layout, mixes=False):
        super().__init__()
        self.first, self.head = nn.Linear(16, 32), nn.Linear(32, 8)
        size = 32 if mixes else 4
        table = torch.rand(size, size) * (torch.rand(size, size) > 0.5)
        self.register_buffer("table", getattr(table, layout)())
        self.mixes = mixes

    def forward(self, x):
        h = self.first(x).relu()
        return self.head((self.table @ h.t()).t() if self.mixes else self.table @ h)


@pytest.mark.parametrize("layout", ["to_sparse_csr", "to_sparse_csc", "to_sparse"])
def test_a_sparse_buffer_holds_what_it_mixes(layout):
    """Beside it channels are pruned; those that it mixes stay, and the reason names it."""
    result = engine.prune(Neighbours(layout), example_inputs=example())
    assert list(result.plan.groups) == ["first.out"]
    graph = engine.analyze(Neighbours(layout, mixes=True), example())
    held = next(group for group in graph.blocked if group.name == "first.out")
    assert re.search(r"axis 1 of table, which cannot be sliced", str(held.blocked))
