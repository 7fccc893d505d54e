"""A stranger's layer: a fused kernel with two weights, of which no shipped rule can know."""

import re

import oracle
import pytest
import torch
from corpus_layers import fused_gate
from prunus import cli, engine
from torch import nn

RULE = """\
use default
{example}
mine = test_stranger.{target}
mine: {signature};  h -> next.in;  {zero}
"""


class Fused(torch.autograd.Function):
    """The kernel as an autograd function, computed where torch is not told of it."""

    @staticmethod
    def forward(ctx, x, up, gates):
        with torch._C.DisableTorchFunction():
            return nn.functional.silu(x @ gates.T) * (x @ up.T)

    @staticmethod
    def backward(ctx, grad):
        raise NotImplementedError


class Layer(nn.Module):
    """The stranger's layer on the custom operator."""

    def __init__(self, width, hidden):
        super().__init__()
        self.up = nn.Parameter(torch.randn(hidden, width) / width**0.5)
        self.gates = nn.Parameter(torch.randn(hidden, width) / width**0.5)

    def forward(self, x):
        return fused_gate(x, self.up, self.gates)


class OnFunction(Layer):
    """The same layer on the autograd function."""

    def forward(self, x):
        return Fused.apply(x, self.up, self.gates)


class Net(nn.Module):
    """The layer between two that everybody knows, in a residual block."""

    def __init__(self, layer):
        super().__init__()
        self.stem = nn.Linear(7, 12)
        self.layer = layer(12, 20)
        self.down = nn.Linear(20, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        x = self.stem(x)
        return self.head(torch.relu(x + self.down(self.layer(x))))


WEIGHTS = ("layer.up[0]", "layer.up[1]", "layer.gates[0]", "layer.gates[1]")
SIGNATURE = "x[*b c], up[h c], gates[h c] -> [*b h]"
OWN = "x[*b c], self.up[h c], self.gates[h c] -> [*b h]"

# How the layer is made, what a rule speaks of, the one line that says it all, and a call if one is needed.
LAYERS = {
    "custom operator": (Layer, "fused_gate", SIGNATURE, "zero x + up gates", ""),
    "autograd function": (OnFunction, "Fused", SIGNATURE, "zero x + up gates", ".apply({weights})"),
    "module": (Layer, "Layer", OWN, "zero x + self.up self.gates", "(3, 5)(randn(2, 3))"),
    "module on an autograd function": (
        OnFunction,
        "OnFunction",
        OWN,
        "zero x + self.up self.gates",
        "(3, 5)(randn(2, 3))",
    ),
}
UNKNOWN = {
    "custom operator": (Layer, "torch.ops.corpus.fused_gate"),
    "autograd function": (OnFunction, "test_stranger.OnFunction"),
}


@pytest.fixture
def x():
    return torch.randn(5, 7)


def ruled(kind, tmp_path):
    """The model of a layer, and the file with the one rule that it takes."""
    layer, target, signature, zero, call = LAYERS[kind]
    call = call.format(weights="randn(2, 3), randn(5, 3), randn(5, 3)")
    example = f"#: example test_stranger.{target}{call}" if call else ""
    file = tmp_path / "mine.rules"
    file.write_text(RULE.format(example=example, target=target, signature=signature, zero=zero))
    return Net(layer), file


@pytest.mark.parametrize("kind", UNKNOWN)
def test_without_a_rule_the_layer_is_held(kind, x):
    """Pruning goes on around the layer, which is reported by name with what it costs and a stub."""
    layer, name = UNKNOWN[kind]
    model = Net(layer)
    result = engine.prune(model, example_inputs=x)
    (unknown,) = result.graph.unknown
    assert unknown.name == name and unknown.reason == f"no rule for {name}"
    assert set(WEIGHTS) <= set(unknown.costs)
    assert model.layer.up.shape == (20, 12) and model.layer.gates.shape == (20, 12)
    assert all(line in str(result) for line in unknown.stub.splitlines())
    assert model(x).shape == (5, 3)


@pytest.mark.parametrize("kind", LAYERS)
def test_with_one_line_it_prunes_exactly(kind, x, tmp_path):
    """Hidden slots and channels go, out of both weights; the result is that of the masked original."""
    model, file = ruled(kind, tmp_path)
    graph = engine.analyze(model, x, rules=file)
    assert graph.unknown == []
    plan = engine.prune(model, file, example_inputs=x, ratio=0.5, dry_run=True).plan
    oracle.check(model, x, plan)
    engine.apply(model, plan)
    assert model.layer.up.shape == model.layer.gates.shape == (10, 6)
    assert (model.down.in_features, model.stem.out_features) == (10, 6)


@pytest.mark.parametrize("kind", LAYERS)
def test_both_groups_are_exact(kind, x, tmp_path):
    """The hidden slots are a group of both weights and of who reads them; the channels run through."""
    model, file = ruled(kind, tmp_path)
    graph = engine.analyze(model, x, rules=file)
    hidden, channels = (
        next(group for group in graph.groups if ("layer.up", axis) in places(group)) for axis in (0, 1)
    )
    assert hidden.exact and channels.exact and not hidden.blocked and not channels.blocked
    assert places(hidden) == {("layer.up", 0), ("layer.gates", 0), ("down.weight", 1)}
    stream = {("stem.weight", 0), ("layer.up", 1), ("layer.gates", 1), ("down.weight", 0), ("head.weight", 1)}
    assert stream <= places(channels)


def places(group):
    return {(member.tensor, member.axis) for member in group.members}


@pytest.mark.parametrize("kind", LAYERS)
def test_the_one_line_passes_the_check(kind, tmp_path, capsys):
    """A custom operator's rule is checked on drawn calls, the others on an example."""
    _, file = ruled(kind, tmp_path)
    status = cli.main(["rules", "check", str(file)])
    assert status == 0, capsys.readouterr().out


@pytest.mark.parametrize("kind", UNKNOWN)
def test_the_reported_stub_prunes_exactly(kind, x, tmp_path, capsys):
    """Pasted into a file, the stub passes the check and is all that it takes.

    For a module it says which line is to be completed: nobody knows how the module was made.
    """
    model = Net(UNKNOWN[kind][0])
    (unknown,) = engine.analyze(model, x).unknown
    file = tmp_path / "stub.rules"
    stub = re.sub(
        r"# To check it, complete this line: '(.*)\(\.\.\.\)(.*)'", r"\1(3, 5)(randn(2, 3))", unknown.stub
    )
    file.write_text(f"use default\n{stub}\n")
    assert cli.main(["rules", "check", str(file)]) == 0, capsys.readouterr().out
    plan = engine.prune(model, file, example_inputs=x, ratio=0.5, dry_run=True).plan
    oracle.check(model, x, plan)
    assert {"layer.up", "layer.gates"} <= set(plan.tensors)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("up[h c]", "up[c h]"),
        ("gates[h c]", "gates[k c]"),
        ("-> [*b h]", "-> [*b (2 h)]"),
        ("x[*b c]", "x[*b (2 c)]"),
        ("zero x + up gates", "mixes h"),
        ("zero x + up gates", "zero"),
    ],
)
def test_a_mistake_in_the_line_is_found(right, wrong, tmp_path, capsys):
    """The check refuses what does not describe the kernel."""
    _, file = ruled("custom operator", tmp_path)
    text = file.read_text()
    assert right in text
    file.write_text(text.replace(right, wrong))
    assert cli.main(["rules", "check", str(file)]) == 1
    assert "error:" in capsys.readouterr().out


def test_a_wrong_line_never_gives_a_wrong_model(x, tmp_path):
    """A rule that forgets the second weight does not fit: nothing is pruned on its word."""
    model, file = ruled("module", tmp_path)
    file.write_text(
        file.read_text().replace(", self.gates[h c]", "").replace("self.up self.gates", "self.up")
    )
    graph = engine.analyze(model, x, rules=file)
    (unknown,) = graph.unknown
    assert "it does not speak of 'self.gates'" in unknown.reason
    engine.prune(model, file, example_inputs=x)
    assert model.layer.up.shape == (20, 12)
