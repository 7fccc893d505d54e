"""Trials of operations that do not check their sizes: whatever they do, they do it to another process."""

import os
import time
import warnings

import pytest
import torch
from prunus import engine
from prunus.cli import main
from prunus.engine.proving.child import CannotBeTried, stub_by_child
from prunus.engine.proving.draft_rule import stub_tried_apart
from prunus.grammar import parse
from prunus.rules.examples import evaluate
from torch import nn
from torch.library import custom_op


@custom_op("prunus_trials::fragile", mutates_args=())
def fragile(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Scales channels; given another number of them than there are scales, it ends the process."""
    if x.shape[1] != scale.shape[0]:
        os.abort()
    return x * scale[:, None]


@custom_op("prunus_trials::endless", mutates_args=())
def endless(x: torch.Tensor) -> torch.Tensor:
    """Works on eight columns, and never comes back from any other number of them."""
    while x.shape[1] != 8:
        time.sleep(0.01)
    return x + 0


@custom_op("prunus_trials::talking", mutates_args=())
def talking(x: torch.Tensor) -> torch.Tensor:
    """Prints while it works, from Python and past it."""
    print("talking")
    os.write(1, b"talking")
    return x[:, : x.shape[1] // 2] * x[:, x.shape[1] // 2 :]


def swish(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(x)


class Scripted(nn.Module):
    """A scripted function between layers with weight norm: a kernel that cannot be seen."""

    def __init__(self, norm=True):
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            normed = nn.utils.weight_norm if norm else nn.Identity()
            self.a, self.b = normed(nn.Conv1d(4, 16, 3)), normed(nn.Conv1d(16, 8, 3))
            self.act = torch.jit.script(swish)
        self.head = nn.Conv1d(8, 3, 1)

    def forward(self, x):
        return self.head(self.act(self.b(self.act(self.a(x)))))


class Fragile(nn.Module):
    """A layer with an operation that ends the process, and one whose trial tells something."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Conv1d(4, 16, 1), nn.Conv1d(16, 12, 1), nn.Conv1d(6, 3, 1)
        self.scale = nn.Parameter(torch.rand(16))

    def forward(self, x):
        return self.head(talking(self.b(fragile(self.a(x), self.scale))))


def test_printing_survives_weight_norm_beside_a_scripted_function():
    """``torch._weight_norm`` writes past its memory if sizes do not fit; the report comes all the same."""
    result = engine.prune(Scripted(), example_inputs=torch.randn(2, 4, 10))
    assert str(result).startswith("Scripted")
    for call in result.graph.unknown:
        assert parse(call.stub).statements


def test_a_native_function_that_does_not_check_its_sizes():
    """The stub says that nothing was found, or what was; the process goes on."""
    for call in ("torch._weight_norm(randn(16, 4, 3), randn(16, 1, 1), 0)",):
        assert parse(stub_tried_apart(evaluate(call))).statements


def test_an_operation_that_ends_the_process():
    """It is reported, with a stub that says so; the next operation is tried as ever."""
    result = engine.prune(Fragile(), example_inputs=torch.randn(2, 4, 5))
    first, second = result.graph.unknown
    assert "# Trial says nothing: the process that tried it died." in first.stub
    assert "fragile: " in first.stub and parse(first.stub).statements
    assert "talking: x[n (2 c) n2] -> [n c n2]" in second.stub
    assert "died" in str(result) and "(2 c)" in str(result)


def test_an_operation_that_does_not_come_back():
    """It is given up after some time, and the next is tried as ever."""
    talking = evaluate("test_trials.talking(randn(3, 8))")
    found = stub_by_child([talking])  # which starts the process
    with pytest.raises(CannotBeTried, match="more than 2 s"):
        stub_by_child([evaluate("test_trials.endless(randn(3, 8))")], seconds=2)
    assert stub_by_child([talking]) == found and "x[n (2 c)] -> [n c]" in str(found)


def test_what_another_process_cannot_import():
    """A class of a function is known in this process only: the stub is blank and says why."""

    class Local(nn.Module):
        def forward(self, x):
            return torch.from_numpy(x.numpy() + 1)

    model = nn.Sequential(nn.Linear(3, 8), Local(), nn.Linear(8, 2))
    stubs = [call.stub for call in engine.analyze(model, torch.randn(2, 3)).unknown if "Local" in call.name]
    assert stubs and all(
        "# Trial says nothing: it cannot be handed to another process" in one for one in stubs
    )


def test_the_command_survives(capsys):
    """``prunus rules new`` writes a blank rule for an operation that ends the process."""
    assert main(["rules", "new", "test_trials.fragile(randn(2, 6, 5), randn(6))"]) in (0, None)
    assert "died" in capsys.readouterr().out
