"""Models whose tensors somebody else holds: shards, offloading, quantisers, odd layouts."""

import re

import pytest
import torch
import torch.utils.mkldnn
from prunus import PlanError, TraceError, engine
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import distribute_module
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from wrapped_nets import (
    OPERATIONS,
    Hook,
    Net,
    Wrapping,
    example,
    graphed,
    named,
    observed,
    packed,
    packed_by_torch,
    prepared,
    subclass,
    with_layer,
    with_mark,
    with_weight,
)


def sharded(net):
    return FullyShardedDataParallel(net, device_id=torch.device("cpu"))


def sharded_inside(net):
    sharded(net)
    return net


def sharded_with_parameters(net):
    return FullyShardedDataParallel(net, device_id=torch.device("cpu"), use_orig_params=True).module


def sharded_by_units(net):
    for unit in (net.body[0], net):
        fully_shard(unit)
    return net


def distributed(net):
    return distribute_module(net, init_device_mesh("cpu", (1,)))


def tensor_parallel(net):
    plan = {"body.0": ColwiseParallel(), "body.2": RowwiseParallel()}
    return parallelize_module(net, init_device_mesh("cpu", (1,)), plan)


@pytest.mark.parametrize(
    "shard",
    [sharded, sharded_inside, sharded_with_parameters, sharded_by_units, distributed, tensor_parallel],
    ids=lambda shard: shard.__name__,
)
def test_shards_are_refused_before_anything_runs(process_group, shard):
    """A rank that holds a part of a tensor cannot slice it alone, whatever is asked for."""
    model = shard(Net())
    runs = []
    model.register_forward_pre_hook(lambda module, args: runs.append(module))
    text = r"(the model|body\.0\.weight) is (sharded by FSDP|spread over ranks as a DTensor)\nprune the whole"
    for operation in OPERATIONS.values():
        with pytest.raises(TraceError, match=text):
            operation(model)
    assert not runs


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
    "torch.ao": (with_layer(packed_by_torch), r"body\.2 is quantised by torch: its weights are packed"),
    "two precisions": (with_mark("_mp_param", None), r"body\.0\.weight is kept in two precisions"),
    "optimizer in backward": (
        with_mark("_in_backward_optimizers", []),
        r"body\.0\.weight is stepped in backward by an optimizer",
    ),
    "QAT": (prepared, r"body\.0\.weight_fake_quant is prepared for quantisation.*\nprune the model before"),
    "observed": (observed, r"body\.0\.activation_post_process is prepared for quantisation"),
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


def test_a_sparse_buffer_has_no_fake():
    """The error says what to do."""
    with pytest.raises(TraceError, match=r"torch\.sparse_csr has no fake one: analyse without fake=True"):
        engine.analyze(Neighbours("to_sparse_csr"), example(), fake=True)


class Packed(nn.Module):
    """Reads a buffer of a dtype of which torch can make no numbers."""

    def __init__(self, dtype):
        super().__init__()
        self.first, self.head = nn.Linear(16, 32), nn.Linear(32, 8)
        self.register_buffer("packed", torch.randint(0, 255, (32, 4), dtype=torch.uint8).view(dtype))

    def forward(self, x):
        return self.head(self.first(x).relu() * self.packed.view(torch.uint8).sum(1))


@pytest.mark.parametrize("dtype", [torch.float4_e2m1fn_x2, torch.uint4, torch.bits8], ids=str)
def test_what_reads_a_packed_buffer_is_held(dtype):
    """The result prints, with a blank rule where nothing can be tried."""
    result = engine.prune(Packed(dtype), example_inputs=example())
    assert not result.plan.groups
    assert "the tensor is read as another dtype" in str(result)


def ragged() -> torch.Tensor:
    """Rows of two lengths, in the form that has no shape."""
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.strided)


def test_a_nested_tensor_among_the_buffers_is_named():
    """Before anything asks for its shape, which is an error in torch."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    model[0].register_buffer("rows", ragged())
    with pytest.raises(TraceError, match=r"0\.rows is a nested tensor"):
        engine.prune(model, example_inputs=torch.ones(1, 4))


def test_a_nested_tensor_beside_the_buffers_is_left_alone():
    """It is an attribute like others."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    model[0].rows = kept = ragged()
    engine.prune(model, example_inputs=torch.ones(1, 4), ratio=0.5)
    assert model[0].rows is kept and model[0].out_features == 4
