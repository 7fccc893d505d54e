"""Every operation lets through what it need not hold, and says in the user's words why it holds the rest."""

from __future__ import annotations

import oracle
import pytest
import torch
from held_nets import IMAGE, NETS
from prunus import engine
from test_traps import halved_twice, parameters, reasons, size
from trap_nets import Head, Net, conv


@pytest.mark.parametrize("net", NETS, ids=str)
def test_only_what_must_be_is_held(net):
    """The axes are pruned exactly, or only shrink, or stay for the reason given; twice in a row."""
    model, inputs = net.build().eval(), net.inputs()
    for graph, before in halved_twice(model, inputs, net.exact + net.mixed + net.stays):
        for axis in net.exact:
            assert size(model, axis) < before[axis], f"{axis} was not pruned: {reasons(graph, axis)}"
        for axis in net.mixed:
            assert size(model, axis) == before[axis], f"{axis} was called exact"
            assert not reasons(graph, axis), f"{axis} is held: {reasons(graph, axis)}"
        for axis in net.stays:
            assert size(model, axis) == before[axis], f"{axis} was pruned"
            assert any(net.reason in reason for reason in reasons(graph, axis)), reasons(graph, axis)
        assert not graph.unknown


@pytest.mark.parametrize("net", NETS, ids=str)
def test_default_call_prunes_and_keeps_output_shapes(net):
    """``engine.prune`` cuts what may shrink, exact or not, and leaves the model running."""
    model, inputs = net.build().eval(), net.inputs()
    shapes = [output.shape for output in oracle.run(model, inputs)]
    before, whole = {axis: size(model, axis) for axis in net.exact + net.mixed}, parameters(model)
    engine.prune(model, example_inputs=inputs)
    assert parameters(model) < whole
    assert [output.shape for output in oracle.run(model, inputs)] == shapes
    for axis in before:
        assert size(model, axis) < before[axis], axis


@pytest.mark.parametrize("masked", [True, False])
def test_deformable_convolutions_are_convolutions(masked):
    """Where a kernel looks is told by data, and what it makes of that is channels like any other."""
    ops = pytest.importorskip("torchvision.ops")

    def forward(self, x):
        x = self.a(x)
        mask = torch.sigmoid(self.mask(x)) if masked else None
        return self.head(self.b(self.deformable(x, self.where(x), mask)))

    layers = {"a": conv(3, 8), "where": conv(8, 18, 3), "mask": conv(8, 9, 3), "b": conv(12, 10)}
    model = Net(forward, deformable=ops.DeformConv2d(8, 12, 3, padding=1), head=Head(10), **layers).eval()
    x = torch.randn(IMAGE)
    plan = engine.analyze(model, x).choose(ratio=0.5, criterion="random", exact_only=True)
    oracle.check(model, x, plan, tolerance=1e-5)
    engine.apply(model, plan)
    assert model.deformable.weight.shape[:2] == (6, 4) and model.where.weight.shape[0] == 18
