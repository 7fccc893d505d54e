"""Models and parts compiled by torch.jit: an error that says what to do, or held with a reason."""

from __future__ import annotations

import io
import warnings

import pytest
import torch
from prunus import engine
from prunus.errors import TraceError
from torch import nn
from trap_nets import Net

X = torch.randn(2, 3, 8, 8)


def part():
    return nn.Sequential(nn.Conv2d(6, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3)).eval()


def loaded(module):
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(module), file)
    file.seek(0)
    return torch.jit.load(file)


WAYS = {
    "scripted": torch.jit.script,
    "traced": lambda module: torch.jit.trace(module, torch.randn(2, 6, 8, 8)),
    "frozen": lambda module: torch.jit.freeze(torch.jit.script(module)),
    "loaded": loaded,
}


def compiled(way):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return WAYS[way](part())


@pytest.mark.parametrize("way", WAYS)
def test_a_compiled_model_is_an_error_that_says_what_to_do(way):
    """Nobody can follow the sizes in its code."""
    with pytest.raises(TraceError, match="prune the Python model, and compile that again"):
        engine.prune(compiled(way), example_inputs=torch.randn(2, 6, 8, 8))


@pytest.mark.parametrize("way", WAYS)
def test_a_compiled_part_is_held_and_named(way, said):
    """What it reads and makes stays; the rest of the model is pruned, and the model runs."""
    torch.manual_seed(0)
    model = Net(
        lambda self, x: self.head(self.leave(self.part(self.enter(x))).relu()),
        enter=nn.Conv2d(3, 6, 1),
        part=compiled(way),
        leave=nn.Conv2d(6, 10, 1),
        head=nn.Conv2d(10, 3, 1),
    ).eval()
    before = model(X)
    graph = engine.analyze(model, X)
    assert {call.module for call in graph.unknown} == {"part"}
    said(graph.group("enter.out").blocked)
    result = engine.prune(model, example_inputs=X)
    assert list(result.plan.groups) == ["leave.out"] and "compiled by torch.jit" in str(result)
    assert model(X).shape == before.shape


def test_a_compiled_function_is_seen():
    """Its calls are those of its operations, as of a compiled module without weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        swish = torch.jit.script(_swish)
        relu = torch.jit.script(nn.ReLU())
    torch.manual_seed(0)
    model = Net(
        lambda self, x: self.head(self.relu(self.b(swish(self.a(x))))),
        a=nn.Conv2d(3, 6, 1),
        b=nn.Conv2d(6, 8, 1),
        relu=relu,
        head=nn.Conv2d(8, 3, 1),
    ).eval()
    plan = engine.analyze(model, X).choose(ratio=0.5, criterion="random", exact_only=True)
    assert len(plan.groups["a.out"]) == 3 and len(plan.groups["b.out"]) == 4
    pruned = engine.prune(model, example_inputs=X)
    assert pruned.model(X).shape == (2, 3, 8, 8)


def _swish(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(x)
