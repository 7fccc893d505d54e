"""The page for users of Torch-Pruning as code: its rows and examples, and what running one of them leaves."""

import ast
import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_pruning as tp
from attrs import frozen
from peer_models import Gain, loss
from prunus import engine
from torch import nn

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "from_torch_pruning.md").read_text(encoding="utf-8")
BLOCK = r"```python\n(.*?)```\n"
PAIR = re.compile(rf"<!-- pair: (\w+) (\w+) -->\n{BLOCK}\n{BLOCK}", re.DOTALL)
TABLE = re.compile(r"<!-- rows: (\w+) -->\n\|.*\n\|.*\n((?:\|.*\n)+)")
ROW = re.compile(r"\| (?P<theirs>.*?) \| (?P<ours>.*?) \| .* <!-- (?P<model>\w+) (?P<compared>\w+) --> \|")

# What the code in a row's cells stands in, by the name that the table gives: theirs and ours.
FRAMES = {
    "options": (
        "options = dict(importance=tp.importance.MagnitudeImportance())\n"
        "options.update(ignored_layers=[getattr(model, 'fc', None)])\n"
        "CELL\n"
        "tp.pruner.BasePruner(model, x, **options).step()\n",
        "options = {}\nCELL\nengine.prune(model, example_inputs=x, **options)\n",
    ),
    "heads": (
        "options = dict(num_heads={block.attn.qkv: block.attn.num_heads for block in model.blocks})\n"
        "CELL\n"
        "importance = tp.importance.MagnitudeImportance()\n"
        "pruner = tp.pruner.BasePruner(model, x, importance, ignored_layers=[model.head], **options)\n"
        "pruner.step()\n"
        "for block in model.blocks:\n"
        "    block.attn.num_heads = pruner.num_heads[block.attn.qkv]\n"
        "    block.attn.head_dim = block.attn.qkv.out_features // (3 * block.attn.num_heads)\n"
        "    block.attn.attn_dim = block.attn.num_heads * block.attn.head_dim\n",
        "options = {}\nCELL\nengine.prune(model, example_inputs=x, **options)\n",
    ),
    "statements": (
        "importance = tp.importance.MagnitudeImportance()\n"
        "DG = tp.DependencyGraph().build_dependency(model, x)\n"
        "pruner = tp.pruner.BasePruner(other, x, importance, ignored_layers=[other.fc])\n"
        "pruner.step()\n"
        "CELL\n",
        "graph = engine.analyze(model, x)\nresult = engine.prune(other, example_inputs=x)\nCELL\n",
    ),
}


@frozen
class Example:
    """Code for both tools, the model that it is about, and what is compared afterwards."""

    model: str
    compared: str
    theirs: str
    ours: str

    def __str__(self):
        return f"{self.theirs.splitlines()[-1]}-{self.ours.splitlines()[-1]}"[:90]


def pairs():
    """The examples that stand below each other."""
    return [Example(*match.groups()) for match in PAIR.finditer(PAGE)]


def rows():
    """The rows of the tables; a test's name is what stands in the cells."""
    for frame, lines in TABLE.findall(PAGE):
        for line in lines.splitlines():
            row = ROW.fullmatch(line)
            assert row, f"name the model and what is compared in a comment: {line}"
            sides = [within(code, row[cell]) for code, cell in zip(FRAMES[frame], ("theirs", "ours"))]
            example = Example(row["model"], row["compared"], *sides)
            yield pytest.param(example, id=f"{row['theirs'][:60]}-{row['ours'][:40]}")


def within(frame, cell):
    """The code of a cell in its frame: options are gathered one by one."""
    form = "options.update({})" if "options" in frame else "{}"
    return frame.replace("CELL", "\n".join(form.format(code) for code in re.findall("`(.+?)`", cell)))


@frozen
class Ran:
    """What an example leaves: the model, the `other` copy of it, and the value of its last line."""

    before: nn.Module
    model: nn.Module
    other: nn.Module
    x: Any
    value: Any

    @property
    def shapes(self):
        return {name: tuple(tensor.shape) for name, tensor in self.model.state_dict().items()}

    def added(self):
        """What was added to the gradients, by parameter."""
        both = zip(self.model.named_parameters(), self.before.parameters())
        return {name: after.grad - before.grad for (name, after), before in both}

    def assert_pruned(self):
        """The model is smaller, and gives what has the shape that it had."""
        assert size(self.model) < size(self.before)
        outputs = [run(model, self.x) for model in (self.model, self.before)]
        assert outputs[0].shape == outputs[1].shape


def size(model):
    return sum(tensor.numel() for tensor in model.parameters())


def run(model, x):
    """The first tensor of the output."""
    with torch.no_grad():
        output = model(**x) if isinstance(x, dict) else model(x)
    return output[0] if isinstance(output, tuple) else output


def ran(code, model, x, path):
    """Run an example on a copy of the model."""
    torch.manual_seed(0)
    own, other = with_gradients(model), with_gradients(model)
    names = {"tp": tp, "engine": engine, "nn": nn, "torch": torch, "Gain": Gain, "path": path, "loss": loss}
    names.update(model=own, other=other, x=x, batch=x)
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<page>", "exec"), names)
    value = eval(compile(ast.Expression(last.value), "<page>", "eval"), names) if last else None
    return Ran(model, own, other, x, value)


def with_gradients(model):
    """A copy; those of `deepcopy` have no gradients."""
    made = copy.deepcopy(model)
    for mine, original in zip(made.parameters(), model.parameters()):
        mine.grad = None if original.grad is None else original.grad.clone()
    return made
