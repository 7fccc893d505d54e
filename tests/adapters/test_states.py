"""What a forward changes that no attribute shows: random numbers, bytes, closures, classes."""

import array
import random
from functools import partial
from io import BytesIO, StringIO

import numpy as np
import pytest
import torch
from prunus import engine
from prunus.engine.witnessing.rerun import output_shapes
from torch import nn

X = torch.randn(4, 6)


def counter():
    """A function with a number and a list in its variables."""
    number, calls = 0, []

    def count():
        nonlocal number
        number += 1
        calls.append(number)

    return count


class Stateful(nn.Module):
    """Two layers, and one of everything that has a state of its own."""

    runs, table, log = 0, torch.zeros(3), []

    def __init__(self, change):
        super().__init__()
        self.change = change
        self.a, self.b, self.part = nn.Linear(6, 16), nn.Linear(16, 4), nn.Linear(2, 2)
        self.torch, self.python = torch.Generator().manual_seed(0), random.Random(0)
        self.numpy, self.old = np.random.default_rng(0), np.random.RandomState(0)
        self.bytes, self.array = bytearray(b"12"), array.array("i", [1])
        self.binary, self.text = BytesIO(b"12"), StringIO("12")
        self.count, self.bound = counter(), partial(list.append, [])

    def forward(self, x):
        h = self.a(x).relu()
        self.change(self)
        return self.b(h)

    def state(self):
        """All of it, as values."""
        kind = type(self)
        return [
            *(self.torch.get_state().tolist(), self.python.getstate(), str(self.numpy.bit_generator.state)),
            *(str(self.old.get_state()), bytes(self.bytes), list(self.array), self.text.getvalue()),
            *(self.binary.getvalue(), self.binary.tell(), list(self.bound.args[0]), type(self.part)),
            *(kind.runs, kind.table.tolist(), list(kind.log), getattr(kind, "new", None)),
            [str(cell.cell_contents) for cell in self.count.__closure__],
        ]


def parametrized(self):
    torch.nn.utils.parametrizations.weight_norm(self.part)


def class_attributes(self):
    type(self).runs += 1
    type(self).log.append(1)
    type(self).new = 3


CHANGES = {
    "a generator": lambda self: torch.rand(1, generator=self.torch),
    "random": lambda self: self.python.random(),
    "numpy": lambda self: self.numpy.random(),
    "old numpy": lambda self: self.old.rand(),
    "bytes": lambda self: self.bytes.extend(b"3"),
    "array": lambda self: self.array.append(1),
    "binary stream": lambda self: self.binary.write(b"345"),
    "text stream": lambda self: self.text.write("345"),
    "closure": lambda self: self.count(),
    "partial": lambda self: self.bound(1),
    "class attributes": class_attributes,
    "a tensor of the class": lambda self: self.table.add_(1),
    "another class": parametrized,
}
RUNS = {
    "analyze": lambda model: engine.analyze(model, X),
    "dry run": lambda model: engine.prune(model, example_inputs=X, dry_run=True),
    "verification": lambda model: output_shapes(model, X),
    "recalibrate": lambda model: engine.recalibrate(nn.Sequential(model, nn.BatchNorm1d(4)), [X]),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_states_are_put_back(change, run):
    """Whatever ran the model, its state is what it was."""
    model = Stateful(change)
    before = model.state()
    run(model)
    assert model.state() == before


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_state_sees_the_change(change):
    """Run alone, each of them does change it; and the model is pruned all the same."""
    kept = {name: getattr(Stateful, name) for name in ("runs", "log")}
    model = Stateful(change)
    engine.prune(model, example_inputs=X)
    assert model.a.out_features == 8
    before = model.state()
    with torch.no_grad():
        model(X)
    assert model.state() != before
    Stateful.runs, Stateful.log = kept["runs"], []
    Stateful.table.zero_()
    if hasattr(Stateful, "new"):
        del Stateful.new


def test_what_hooks_collect_is_not_theirs_to_keep():
    """A hook that collects activations in somebody's list has collected nothing afterwards."""
    model, found = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4)), []
    model[1].register_forward_hook(lambda module, inputs, output: found.append(output))
    engine.prune(model, example_inputs=X)
    assert found == [] and model[0].out_features == 8
