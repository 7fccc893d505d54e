"""What prunus gives is pickled and copied with all that it can answer, here and in another process."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import prunus.errors
import pytest
import torch
from prunus import engine
from prunus.engine.tracing.flat import Gone, flattened
from prunus.errors import PrunusError, RuleFileError
from prunus.grammar import parse
from test_checkpoint import IMAGE, TOKENS, images, language
from torch import nn
from torch.nn import functional as F


class Deep(nn.Module):
    """Many calls one after the other, each inside of the next as pickle sees it."""

    def __init__(self, layers: int = 70):
        super().__init__()
        self.enter = nn.Linear(4, 4)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(layers))
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x = self.enter(x)
        for layer in self.layers:
            x = x + layer(x).relu()
        return self.head(x)


class Twisted(nn.Module):
    """Functions of torch that pickle has no name for, sizes in slices, a recurrent layer, and a norm."""

    def __init__(self):
        super().__init__()
        self.width, self.sizes = 12, {"wide": 12, None: 3}
        self.enter, self.norm = nn.Conv1d(3, 12, 3, padding=1), nn.GroupNorm(3, 12)
        self.cells, self.leave = nn.LSTM(12, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x):
        x = F.max_pool1d(self.norm(self.enter(x)), 2)
        x = torch.cat([x[:, : self.width // 2], x[:, self.sizes["wide"] // 2 :]], 1)
        x = x.transpose(1, 2).mT.mT ** 2
        return self.leave(self.cells(x)[0][:, -1])


NETS = {
    "images": (images, IMAGE, ("0", "3")),
    "language": (language, TOKENS, ("qkv", "join")),
    "deep": (Deep, torch.randn(2, 4), ("layers.0", "layers.9")),
    "twisted": (Twisted, torch.randn(2, 3, 8), ("enter", "leave")),
}


def result_of(name: str, **options) -> engine.Result:
    torch.manual_seed(0)
    make, x, _ = NETS[name]
    return engine.prune(make().eval(), example_inputs=x, ratio=0.5, **options)


def answers(result: engine.Result, name: str) -> list[str]:
    """All that can be asked of a result, as text."""
    graph = result.graph
    one, other = NETS[name][2]
    asked = [graph.why(one), graph.why(one, other), [str(group) for group in graph.groups], graph.unknown]
    asked += [
        [str(call) for call in graph.unreached],
        [str(graph.layout(m)) for m in graph.groups[0].members],
    ]
    asked += [sorted(map(str, graph.network.nodes)), graph.free_outputs, result.left_alone, result.notes]
    return [str(result), *map(str, asked)]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("way", [lambda one: pickle.loads(pickle.dumps(one)), copy.deepcopy])
def test_a_copy_answers_as_the_original(name, way, tmp_path):
    """Report, reasons, groups, and the same choice again; its model is one, and computes the same."""
    result = result_of(name)
    before = answers(result, name)
    other = way(result)
    assert answers(other, name) == before == answers(result, name)
    assert other.plan == result.plan and other.model is other.graph.model is not result.model
    x = NETS[name][1]
    assert torch.equal(other.model(x), result.model(x))
    other.save(tmp_path / "x")
    assert torch.equal(engine.load(tmp_path / "x", NETS[name][0]().eval())(x), result.model(x))


@pytest.mark.parametrize("name", NETS)
def test_a_graph_chooses_as_the_original(name):
    """A plan of a copy is one of the original, attributes and all."""
    make, x, _ = NETS[name]
    graph = engine.analyze(make().eval(), x)
    other = pickle.loads(pickle.dumps(graph))
    assert other.choose(0.5) == graph.choose(0.5)
    group = max(graph.groups, key=lambda group: group.size)
    assert other.plan({group.name: [0, 1]}) == graph.plan({group.name: [0, 1]})
    assert str(other.group(group.name)) == str(pickle.loads(pickle.dumps(group))) == str(group)
    for said in (graph.why(group.layers[0]), *graph.unknown):
        assert str(pickle.loads(pickle.dumps(said))) == str(said)
    assert str(engine.cost(graph.model, x)) == str(pickle.loads(pickle.dumps(engine.cost(graph.model, x))))


def test_another_process_answers_the_same(tmp_path):
    """It prints, explains and saves."""
    code = """
import pickle, sys
result = pickle.loads(open(sys.argv[1], "rb").read())
print(result)
print(result.graph.why("qkv", "join"))
result.save(sys.argv[2])
"""
    result = result_of("language")
    (tmp_path / "result").write_bytes(pickle.dumps(result))
    command = [sys.executable, "-c", code, tmp_path / "result", tmp_path / "half"]
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    printed = subprocess.run(command, env=paths, capture_output=True, text=True, check=True).stdout
    assert printed == f"{result}\n{result.graph.why('qkv', 'join')}\n"
    assert torch.equal(engine.load(tmp_path / "half", language())(TOKENS), result.model(TOKENS))


def test_the_model_is_in_it_once():
    """Result and graph share it, and the graph keeps no values of its own."""
    model = nn.Sequential(nn.Linear(6, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 3))
    result = engine.prune(model, example_inputs=torch.randn(1, 6), ratio=0.1)
    alone = len(pickle.dumps(result.model))
    assert alone > 800_000
    assert len(pickle.dumps(result)) < alone + 500_000


def test_a_schedule_goes_on():
    """With its model and optimizer, which stay each other's."""
    torch.manual_seed(0)
    model = images()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = engine.Schedule(
        model, optimizer=optimizer, example_inputs=IMAGE, macs=0.5, steps=2, every=1, criterion="l1"
    )
    schedule.step()
    other = pickle.loads(pickle.dumps(schedule))
    assert str(other) == str(schedule) and other.plan == schedule.plan
    for one in (schedule, other):
        one.step()
    assert other.done and other.plan == schedule.plan
    assert torch.equal(other.model(IMAGE), schedule.model(IMAGE))
    assert {id(p) for p in other._optimizer.param_groups[0]["params"]} == set(
        map(id, other.model.parameters())
    )


@pytest.mark.parametrize("kind", ["group", "layer", "bn_scale", "growing"])
def test_a_regularizer_goes_on(kind):
    """It presses on the weights of its own model."""
    torch.manual_seed(0)
    regularizer = engine.Regularizer(engine.analyze(images(), IMAGE), kind, 0.1)
    other = pickle.loads(pickle.dumps(regularizer))
    assert str(other) == str(regularizer)
    owner, name = next(iter(other._owners.values()))
    weight = owner._parameters[name]
    weight.grad = torch.zeros_like(weight)
    other.step()
    assert weight.grad.abs().sum() > 0


def test_a_plan_alone_is_small():
    """It is data."""
    plan = result_of("images").plan
    assert pickle.loads(pickle.dumps(plan)) == plan == copy.deepcopy(plan) and len(pickle.dumps(plan)) < 5000


def all_errors() -> list[type[PrunusError]]:
    found, todo = [], [PrunusError]
    while todo:
        found.append(todo.pop())
        todo += found[-1].__subclasses__()
    return [kind for kind in found if kind.__module__.startswith("prunus")]


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_errors_keep_their_message(kind):
    """And those of rule files the line, the caret and the help."""
    if issubclass(kind, RuleFileError):
        try:
            parse("a: roll\nconv: input[n ->\n", "my.rules")
        except RuleFileError as error:
            span = error.span
        errors = [kind("no such thing", span, "write another"), kind("no such thing")]
        assert "conv: input[n ->" in str(errors[0])
    else:
        errors = [kind("no such thing: \u6881")]
    for error in errors:
        for other in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
            assert type(other) is kind and str(other) == str(error)


def test_real_errors_are_pickled():
    """As they come out of the calls, with what they were caused by left out."""
    with pytest.raises(PrunusError) as caught:
        engine.prune(nn.Linear(3, 2), example_inputs=torch.randn(2, 4))
    other = pickle.loads(pickle.dumps(caught.value))
    assert type(other) is type(caught.value) and str(other) == str(caught.value)
    assert prunus.errors.TraceError is type(other)


def test_rules_of_a_file_go_along(tmp_path):
    """The text need not be there any more."""
    path = tmp_path / "mine.rules"
    path.write_text("use default\n\nmine = torch.erf\nmine: input[*s] -> [*s]\n")
    x = torch.randn(2, 3)

    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    graph = engine.analyze(model, x, rules=str(path))
    data = pickle.dumps(graph)
    path.unlink()
    other = pickle.loads(data)
    assert other.rules.rule_for(torch.erf).name == "mine"
    assert other.choose(0.5) == graph.choose(0.5)


def test_what_cannot_be_taken_along_is_said():
    """A stand-in that has the name, and raises when it is used."""
    flat = pickle.loads(pickle.dumps(flattened([lambda: None])))
    (gone,) = [leaf for leaf in flat.leaves if isinstance(leaf, Gone)]
    with pytest.raises(PrunusError, match="lambda"):
        gone()
