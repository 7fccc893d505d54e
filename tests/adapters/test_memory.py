"""What slicing holds in memory, and that what it lets go comes back: values, strides, gradients, aliases."""

from __future__ import annotations

import gc
from functools import partial
from typing import ClassVar

import pytest
import torch
from prunus import engine
from prunus.adapters.apply import carry_out
from prunus.adapters.tensors import SlicedTensor
from prunus.engine.witnessing.rerun import check_pruned
from prunus.errors import VerificationError
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Room for the lists of indices, which are no tensors of the model.
INDICES = 20_000


class Live(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, after every operation."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.storages: dict[StorageWeakRef, int] = {}
        for tensor in [*model.parameters(), *model.buffers()]:
            self.watch(tensor)
            if tensor.grad is not None:
                self.watch(tensor.grad)
        self.before = self.peak = self.now()

    def watch(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self.storages[StorageWeakRef(storage)] = storage.nbytes()

    def now(self) -> int:
        """The bytes that are alive."""
        self.storages = {ref: size for ref, size in self.storages.items() if not ref.expired()}
        return sum(self.storages.values())

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        results = func(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, Tensor):
                self.watch(result)
        self.peak = max(self.peak, self.now())
        return results


class Gated(nn.Module):
    """Many layers of the same size, each pruned along both axes; it can be told not to run once pruned."""

    def __init__(self, stubborn: bool = False) -> None:
        super().__init__()
        self.stubborn = stubborn
        self.layers = nn.ModuleList(nn.Linear(200, 200) for _ in range(8))
        self.out = nn.Linear(200, 3)

    def forward(self, x: Tensor) -> Tensor:
        if self.stubborn and str(self.out.in_features) == "100":
            raise ValueError("I do not want 100 features")
        x = x.repeat(1, 50)
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.out(x)


class Convolutions(nn.Module):
    """Ordinary, depthwise and 1x1 convolutions; it can be told not to run once pruned."""

    def __init__(self, stubborn: bool = False) -> None:
        super().__init__()
        self.stubborn = stubborn
        self.wide = nn.Conv2d(3, 16, 3, padding=1)
        self.deep = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.point = nn.Conv2d(16, 12, 1)
        self.out = nn.Conv2d(12, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.stubborn and str(self.point.in_channels) == "8":
            raise ValueError("I do not want 8 channels")
        return self.out(torch.relu(self.point(torch.relu(self.deep(self.wide(x))))))


def largest(model: nn.Module) -> int:
    return max(parameter.nbytes for parameter in model.parameters())


def with_gradients(model: nn.Module, x: Tensor) -> nn.Module:
    model(x).sum().backward()
    return model


X = torch.randn(2, 4)
IMAGE = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("ratio", [0.05, 0.5, 0.95])
def test_applying_takes_the_model_and_two_of_its_tensors(ratio, gradients):
    """Whatever the ratio, what is kept for a failure and what is made of it never exceed that."""
    model = Gated()
    plan = engine.prune(model, example_inputs=X, ratio=ratio, dry_run=True).plan
    if gradients:
        with_gradients(model, X)
    with Live(model) as live:
        engine.apply(model, plan)
    assert live.peak <= live.before + 2 * largest(Gated()) + INDICES
    assert live.now() == Live(model).before < live.before


def test_taking_back_takes_no_more():
    """A pruned model that does not run is put together again tensor by tensor."""
    model = with_gradients(Gated(stubborn=True), X)
    graph = engine.analyze(model, X)
    plan = graph.choose(ratio=0.5)
    with Live(model) as live, pytest.raises(VerificationError):
        carry_out(model, plan, check=partial(check_pruned, model, graph))
    assert live.peak <= live.before + 2 * largest(Gated()) + INDICES
    assert live.now() == Live(model).before == live.before


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.complex64, torch.bool, torch.int8]
)
def test_what_was_let_go_comes_back(dtype):
    """A tensor of any kind of number, cut along both axes, is bit for bit what it was."""
    tensor = torch.randn(60, 500).to(dtype)
    before, whole = tensor.clone(), StorageWeakRef(tensor.untyped_storage())
    step = SlicedTensor(tensor, {0: torch.tensor([0, 2, 5]), 1: slice(1, 4)})
    step.carry_out()
    assert tensor.shape == (3, 3) and whole.expired()
    rows = [before[slot, 1:4].view(torch.int8) for slot in (0, 2, 5)]
    assert torch.equal(tensor.view(torch.int8), torch.stack(rows))
    step.take_back()
    assert torch.equal(tensor.view(torch.int8), before.view(torch.int8))


def test_what_others_see_is_put_back_as_it_was():
    """Views and aliases of a parameter, and parameters in one block of memory, see it again."""
    model = Gated(stubborn=True)
    block = torch.randn(2, 200, 200)
    model.layers[0].weight.data, model.layers[1].weight.data = block[0], block[1]
    model.layers[3].weight.data = model.layers[2].weight.data
    alias = model.layers[4].weight.detach()
    before = {name: (value.clone(), value.data_ptr()) for name, value in model.state_dict().items()}
    with pytest.raises(VerificationError):
        engine.prune(model, example_inputs=X, ratio=0.5)
    for name in (
        "layers.0.weight",
        "layers.1.weight",
        "layers.2.weight",
        "layers.3.weight",
        "layers.4.weight",
    ):
        assert model.get_parameter(name).data_ptr() == before[name][1]
    assert all(torch.equal(value, before[name][0]) for name, value in model.state_dict().items())
    block.zero_()
    alias.zero_()
    assert not any(model.layers[i].weight.any() for i in (0, 1, 4))


def test_what_others_see_is_left_to_them():
    """A state dict taken before pruning holds the whole model afterwards."""
    model = Gated()
    state = model.state_dict()
    before = {name: value.clone() for name, value in state.items()}
    engine.prune(model, example_inputs=X, ratio=0.5)
    assert all(torch.equal(value, before[name]) for name, value in state.items())


def test_the_memory_format_is_kept():
    """Convolutions in channels_last stay in it, with their gradients, and compute the same."""
    model, plain = Convolutions().to(memory_format=torch.channels_last), Convolutions()
    plain.load_state_dict(model.state_dict())
    for net in (with_gradients(model, IMAGE), with_gradients(plain, IMAGE)):
        engine.prune(net, example_inputs=IMAGE, ratio=0.5)
    for parameter, contiguous in zip(model.parameters(), plain.parameters()):
        assert torch.equal(parameter, contiguous) and torch.allclose(
            parameter.grad, contiguous.grad, atol=1e-4
        )
        assert contiguous.is_contiguous()
        if parameter.dim() == 4:
            assert parameter.is_contiguous(memory_format=torch.channels_last)
            assert parameter.grad.stride() == parameter.stride()
    wide = model.wide.weight
    assert wide.shape == (8, 3, 3, 3) and wide.stride() == (27, 1, 9, 3)


def test_the_memory_format_comes_back():
    """After a failure every tensor and gradient has the strides that it had, and is the same object."""
    model = with_gradients(Convolutions(stubborn=True).to(memory_format=torch.channels_last), IMAGE)
    facts = {
        name: (parameter.stride(), parameter.grad, parameter.grad.stride(), parameter.detach().clone())
        for name, parameter in model.named_parameters()
    }
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    with pytest.raises(VerificationError):
        engine.prune(model, example_inputs=IMAGE, ratio=0.5)
    for name, parameter in model.named_parameters():
        stride, grad, grad_stride, values = facts[name]
        assert parameter.stride() == stride and torch.equal(parameter, values)
        assert parameter.grad is grad and grad.stride() == grad_stride
        assert torch.equal(grad, gradients[name])


def test_a_transposed_tensor_stays_transposed():
    """The order of the axes in memory is kept, whichever it is."""
    tensor = torch.randn(6, 5000).t().contiguous().t()
    step = SlicedTensor(tensor, {0: torch.tensor([0, 2, 5])})
    step.carry_out()
    assert tensor.stride() == (1, 3)
    step.take_back()
    assert tensor.stride() == (1, 6)


def test_gradients_of_embeddings_are_sliced_in_their_sparse_form():
    """A sparse gradient stays sparse, whether the kept features are scattered or one run."""
    for kept in (torch.tensor([0, 2, 3]), slice(1, 4)):
        table = nn.Embedding(6, 5, sparse=True)
        table(torch.tensor([0, 4])).sum().backward()
        before, dense = table.weight.grad, table.weight.grad.to_dense()
        step = SlicedTensor(table.weight, {1: kept})
        with torch.no_grad():
            step.carry_out()
        assert table.weight.grad.is_sparse
        assert torch.equal(table.weight.grad.to_dense(), dense[:, kept])
        with torch.no_grad():
            step.take_back()
        assert table.weight.grad is before and table.weight.shape == (6, 5)


def test_an_interrupt_between_two_steps_loses_nothing(monkeypatch):
    """Ctrl-C while a tensor is cut along its second axis: all is as it was."""
    model = Gated()
    plan = engine.prune(model, example_inputs=X, ratio=0.5, dry_run=True).plan
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for stop in (1, 2, 3, 10, 25):
        with pytest.raises(KeyboardInterrupt), Interrupting(stop):
            engine.apply(model, plan)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Interrupting(TorchDispatchMode):
    """Raises `KeyboardInterrupt` in the place of the n-th selection of slots."""

    def __init__(self, stop: int) -> None:
        super().__init__()
        self.left = stop

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.left -= func in (torch.ops.aten.index_select.default, torch.ops.aten.narrow_copy.default)
        if self.left == 0:
            self.left = -1
            raise KeyboardInterrupt
        return func(*args, **(kwargs or {}))


class Listed(nn.Sequential):
    """A class that holds a list, which a snapshot remembers as it does not belong to the model."""

    known: ClassVar = ["first", "second"]


@pytest.mark.parametrize("correct", [False, True], ids=["planned", "corrected"])
def test_nothing_waits_for_the_collector(correct):
    """What a dry run has made is gone when it returns, also what it saw of each batch."""
    model = Listed(nn.Linear(200, 400), nn.Linear(400, 3)).eval()
    x = torch.randn(2, 200)
    options = {"criterion": "wanda", "data": [x] * 8, "compensate": "lstsq"} if correct else {}
    gc.collect()
    gc.disable()
    try:
        with Live(model) as live:
            engine.prune(model, example_inputs=x, dry_run=True, **options)
            assert live.now() <= live.before + INDICES
    finally:
        gc.enable()
