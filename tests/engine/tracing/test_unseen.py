"""Kernels that no trace can see: the module around one is a call without a rule, held and reported."""

import oracle
import pytest
import torch
from prunus import engine
from prunus.grammar import parse
from torch import nn


def kernel(x, weight):
    """A gated product as an extension would compute it: torch is not told of any call."""
    with torch._C.DisableTorchFunction():
        value, gate = (x @ weight.t()).chunk(2, -1)
        return value * gate.sigmoid()


class Unseen(nn.Module):
    """Half of the rows make values, half make gates."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2 * outputs, inputs) / inputs**0.5)

    def forward(self, x):
        return kernel(x, self.weight)


class Inside(nn.Module):
    """The kernel's result is used in the module itself, its operand made there."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.enter = nn.Linear(inputs, inputs)
        self.weight = nn.Parameter(torch.randn(2 * outputs, inputs) / inputs**0.5)
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, x):
        return kernel(self.enter(x), self.weight) + self.bias


def net(layer):
    return nn.Sequential(nn.Linear(7, 10), layer, nn.ReLU(), nn.Linear(12, 3))


@pytest.mark.parametrize("layer", [Unseen, Inside])
def test_a_module_with_an_unseen_kernel_is_held(layer):
    """Pruning goes on around it, and it is named with what it costs."""
    model, x = net(layer(10, 12)), torch.randn(4, 7)
    result = engine.prune(model, example_inputs=x)
    (unknown,) = result.graph.unknown
    assert unknown.name.endswith(layer.__name__) and unknown.module == "1"
    assert "1.weight[0]" in unknown.costs
    assert model(x).shape == (4, 3)


def test_the_stub_of_an_unseen_kernel_is_its_coupling(tmp_path):
    """Trial on the module finds the fused gate; pasted into a file, the rule prunes exactly."""
    model, x = net(Unseen(10, 12)), torch.randn(4, 7)
    stub = engine.analyze(model, x).unknown[0].stub
    assert "self.weight[(2 out) in]" in stub
    file = tmp_path / "mine.rules"
    file.write_text(f"use default\n{stub}\n")
    graph = engine.analyze(model, x, rules=file)
    assert not graph.unknown
    assert all(group.exact for group in graph.groups)
    oracle.check(model, x, graph.choose(0.5))


def test_a_kernel_on_the_meta_device_has_a_blank_stub():
    """There is nothing to try; the stub can be read all the same."""
    with torch.device("meta"):
        model = net(Inside(10, 12))
    (unknown,) = engine.analyze(model, torch.randn(4, 7, device="meta"), fake=True).unknown
    assert "self.weight[*weight], self.bias[*bias]" in unknown.stub
    assert parse(unknown.stub).statements


def test_a_constant_from_outside_is_no_kernel():
    """A tensor that comes from nowhere costs nothing but its own axes."""

    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(10))

        def forward(self, x):
            with torch._C.DisableTorchFunction():
                one = torch.ones(())
            return x * self.scale + one

    model = nn.Sequential(nn.Linear(7, 10), Shifted(), nn.Linear(10, 3))
    graph = engine.analyze(model, torch.randn(4, 7))
    assert not graph.unknown
    assert [group.size for group in graph.groups] == [10]


class Caching(nn.Module):
    """Something made of a parameter is kept and used, the parameter itself is not."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.randn(10))
        self.cache = {}

    def forward(self, x):
        if "bias" not in self.cache:
            self.cache["bias"] = self.bias * 1
        return x.relu() + self.cache["bias"]


def test_what_a_part_keeps_from_an_earlier_run_is_no_kernel():
    """Not even where the module around it makes something that nobody uses."""

    class Wasteful(nn.Sequential):
        def forward(self, x):
            x.exp()
            return super().forward(x)

    model, x = nn.Sequential(nn.Linear(7, 10), Wasteful(Caching()), nn.Linear(10, 3)), torch.randn(4, 7)
    model(x)
    assert not engine.analyze(model, x).unknown


def test_what_no_kernel_reads_is_no_sign_of_one():
    """Flags, positions, and results that came along with another are thrown away in many models."""

    class Careful(nn.Module):
        def forward(self, x):
            assert not x.isnan().any()
            largest, _ = x.max(0)
            with torch._C.DisableTorchFunction():
                steps = torch.arange(4.0)[:, None]
            return (x - largest) * steps

    graph = engine.analyze(nn.Sequential(nn.Linear(7, 10), Careful(), nn.Linear(10, 3)), torch.randn(4, 7))
    assert not graph.unknown
    assert [group.size for group in graph.groups] == [10]


def test_a_kernel_holds_what_it_may_read_only():
    """The layers inside of the module around it that a trace can see are free."""

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.enter, self.inner = nn.Linear(7, 10), nn.Linear(10, 5)
            self.weight = nn.Parameter(torch.randn(6, 5))
            self.leave = nn.Linear(3, 2)

        def forward(self, x):
            return self.leave(kernel(self.inner(self.enter(x).relu()), self.weight))

    graph = engine.analyze(Around(), torch.randn(4, 7))
    assert len(graph.unknown) == 1
    assert [group.name for group in graph.groups] == ["enter.out"]


def test_what_a_module_keeps_from_an_earlier_run_is_no_kernel():
    """A cache of something made of a parameter is used, the parameter itself is not."""
    model, x = nn.Sequential(nn.Linear(7, 10), Caching(), nn.Linear(10, 3)), torch.randn(4, 7)
    model(x)
    assert not engine.analyze(model, x).unknown
