"""What Python code reads of a tensor's data decides the path: it is remembered, and keeps its shape."""

import operator

import numpy as np
import oracle
import pytest
import torch
from prunus import engine
from torch import nn
from trap_nets import Net, conv

IMAGE = torch.randn(2, 3, 6, 6)

READS = {
    "item": lambda h: h.sum().item(),
    "bool": lambda h: bool(h.sum() > 0),
    "int": lambda h: int(h.sum()),
    "float": lambda h: float(h.sum()),
    "complex": lambda h: complex(h.sum()),
    "index": lambda h: operator.index(h.sum().long()),
    "tolist": lambda h: h.tolist(),
    "numpy": lambda h: h.numpy(),
    "detach and numpy": lambda h: h.detach().cpu().numpy(),
    "array": lambda h: np.asarray(h),
    "array with a dtype": lambda h: np.array(h, dtype=np.float64),
    "equal": lambda h: torch.equal(h, h.relu()),
    "method equal": lambda h: h.equal(h),
    "allclose": lambda h: torch.allclose(h, h),
    "is_nonzero": lambda h: torch.is_nonzero(h.sum()),
    "in": lambda h: 3.0 in h,
    "if": lambda h: 1 if h.sum() > 0 else 2,
    "assert": lambda h: [1 for _ in [0] if not h.isnan().any()],
    "dlpack": lambda h: np.from_dlpack(h),
}
QUESTIONS = {
    "dim": lambda h: h.dim(),
    "ndim": lambda h: h.ndim,
    "shape": lambda h: h.shape,
    "size": lambda h: h.size(1),
    "numel": lambda h: h.numel(),
    "stride": lambda h: h.stride(),
    "dtype": lambda h: h.dtype,
    "device": lambda h: h.device,
    "is_floating_point": lambda h: torch.is_floating_point(h) and h.is_floating_point(),
    "flags": lambda h: (h.requires_grad, h.is_leaf, h.is_cuda, h.is_sparse, h.layout, h.is_meta),
    "grad": lambda h: (h.grad, h.grad_fn),
    "is_contiguous": lambda h: h.is_contiguous(),
    "element_size": lambda h: h.element_size() * h.storage_offset(),
    "result_type": lambda h: torch.result_type(h, h),
    "is_same_size": lambda h: h.is_same_size(h),
    "is_complex": lambda h: h.is_complex(),
    "data_ptr": lambda h: h.data_ptr(),
    "hash": lambda h: hash(h),
}


def looking(look):
    """A net that looks at its hidden feature before it goes on."""

    def forward(self, x):
        h = self.a(x).relu()
        look(h)
        return self.b(h)

    return Net(forward, a=conv(3, 8), b=conv(8, 4))


@pytest.mark.parametrize("look", READS.values(), ids=READS)
def test_a_read_is_remembered(look):
    """Every way to get at a tensor's data, with the line."""
    reads = engine.trace(looking(look), IMAGE).reads
    assert reads
    assert all(read.source.file == __file__ and "lambda" in read.source.text for read in reads)


@pytest.mark.parametrize("look", QUESTIONS.values(), ids=QUESTIONS)
def test_a_question_is_no_read(look):
    """What is known of a tensor without its data is not remembered."""
    assert engine.trace(looking(look), IMAGE).reads == []


def test_a_number_that_is_read_holds_nothing():
    """A reduction over the channels that a branch reads has no axes; the channels go on their own."""

    def forward(self, x):
        h = self.a(x).relu()
        if h.abs().sum() > 1e9:
            h = h / 2
        return self.b(h)

    model = Net(forward, a=conv(3, 8), b=conv(8, 4))
    graph = engine.analyze(model, IMAGE)
    assert graph.group("a.out").blocked is None
    oracle.check(model, IMAGE, graph.choose(0.5))


def test_what_is_read_keeps_its_shape(said):
    """A feature that goes into a list keeps its channels, and the reason names the line."""
    graph = engine.analyze(looking(lambda h: h.mean((0, 2, 3)).tolist()), IMAGE)
    said(graph.group("a.out").blocked)


def test_a_mean_over_channels_that_is_read_is_not_exact():
    """The number that a branch reads is another one with fewer channels: as exact as an output would be."""

    def forward(self, x):
        h = self.a(x).relu()
        return self.b(h) * float(h.mean())

    graph = engine.analyze(Net(forward, a=conv(3, 8), b=conv(8, 4)), IMAGE)
    assert not graph.group("a.out").exact


def test_a_class_that_a_branch_reads_stays(said):
    """A gate's decision is read as a number: its classes are those of an output."""

    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.gate = nn.Linear(5, 8), nn.Linear(8, 4), nn.Linear(8, 6)

        def forward(self, x):
            h = self.a(x).relu()
            for weight in self.gate(h).sum(0).numpy():
                h = h if weight > 1e9 else h + 0
            return self.b(h)

    model, x = Gate(), torch.randn(3, 5)
    graph = engine.analyze(model, x)
    said(graph.group("gate.out").blocked)
    plan = graph.choose(0.5)
    assert "a.out" in plan.groups
    oracle.check(model, x, plan)
