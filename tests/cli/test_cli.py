"""The command line: what it prints, and that every mistake of the user ends in one clear message."""

import json
import sys
from importlib.metadata import entry_points

import pytest
from prunus.cli import main
from prunus.cli.inputs import example_inputs, load_model
from prunus.engine import Plan
from residual_net import SOURCE

NETS = (
    SOURCE
    + """
class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, tokens):
        return self.head(self.table(tokens))

ready = Net()
number = 3

def five():
    return 5

def broken():
    raise ValueError("no weights here")
"""
)

INPUT = ["--input", "1x3x8x8"]


@pytest.fixture(autouse=True)
def nets(tmp_path, monkeypatch):
    """A directory with a module of small networks, made the current one."""
    (tmp_path / "small_nets.py").write_text(NETS)
    (tmp_path / "wrong.rules").write_text("conv: input[n ->\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def run(capsys, *arguments):
    status = main(arguments)
    out, err = capsys.readouterr()
    return status, out, err


BAD = [
    ([], "COMMAND"),
    (["grow", "small_nets:Net"], "grow"),
    (["groups"], "MODEL"),
    (["groups", "small_nets"], "does not name a model"),
    (["groups", "small_nets:"], "does not name a model"),
    (["groups", "no_such_package:net"], "no module named 'no_such_package'"),
    (["groups", "small_nets:Nett"], "did you mean 'Net'?"),
    (["groups", "small_nets:number"], "neither a module nor a callable"),
    (["groups", "small_nets:five"], "returned a int"),
    (["groups", "small_nets:broken"], "ValueError: no weights here"),
    (["groups", "timm:resnet1800"], "timm has no model 'resnet1800'"),
    (["groups", "torchvision:resnet81"], "did you mean 'resnet18'?"),
    (["groups", "small_nets:Net", "--input", "1x3xx8"], "'1x3xx8' is not a shape"),
    (["groups", "small_nets:Net", "--input", "floats:1x3x8x8"], "is not a shape"),
    (["groups", "small_nets:Net", "--input", "1x7x8x8"], "stem"),
    (["groups", "small_nets:Net", *INPUT, "--rules", "absent.rules"], "absent.rules"),
    (["groups", "small_nets:Net", *INPUT, "--rules", "wrong.rules"], "wrong.rules"),
    (["why", "small_nets:Net", "stemm", *INPUT], "stemm"),
    (["why", "small_nets:Net", "stem", "tail", *INPUT], "tail"),
    (["prune", "small_nets:Net", *INPUT, "--ratio", "1.5"], "1.5"),
    (["prune", "small_nets:Net", *INPUT, "--ratio", "half"], "half"),
    (["prune", "small_nets:Net", *INPUT, "--ratio", "0.5", "--macs", "0.5"], "give one of them"),
    (["prune", "small_nets:Net", *INPUT, "--scope", "galactic"], "galactic"),
    (["prune", "small_nets:Net", *INPUT, "--criterion", "beauty"], "beauty"),
    (["prune", "small_nets:Net", *INPUT, "--min-keep", "0"], "min_keep"),
    (["prune", "small_nets:Net", *INPUT, "--round-to", "0"], "0"),
    (["prune", "small_nets:Net", *INPUT, "--only", "no_such_group"], "no_such_group"),
    (["prune", "small_nets:Net", *INPUT, "--skip", "no_such_group"], "no_such_group"),
    (["prune", "small_nets:Net", *INPUT, "--prefer", "middle"], "middle"),
    (["prune", "small_nets:Net", *INPUT, "--plan", "absent/plan.json"], "cannot write absent/plan.json"),
]


@pytest.mark.parametrize(
    ("arguments", "expected"), BAD, ids=lambda value: " ".join(value) if type(value) is list else ""
)
def test_a_mistake_is_one_message(capsys, arguments, expected):
    """Exit status 2, one message that names the culprit, no traceback."""
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert err.startswith("error: ")
    assert err.count("error: ") == 1
    assert expected in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("timm", ["groups", "timm:resnet18"]),
        ("torchvision.models", ["groups", "torchvision:resnet18"]),
        ("sklearn.datasets", ["demo"]),
    ],
)
def test_a_missing_package_is_named(capsys, monkeypatch, package, arguments):
    """Model libraries and the demo's data are optional, and asked for by name."""
    monkeypatch.setitem(sys.modules, package, None)
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert "scikit-learn" in err if package.startswith("sklearn") else package in err


def test_groups_lists_what_shrinks_together(capsys):
    """A plain table of fixed width, where the standard output is not a terminal."""
    status, out, _ = run(capsys, "groups", "small_nets:Net", *INPUT)
    assert status == 0
    assert "stem.out" in out
    assert "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 120


def test_why_explains_one_or_two_layers(capsys):
    """The two convolutions are joined by the addition."""
    status, out, _ = run(capsys, "why", "small_nets:Net", "stem", "conv", *INPUT)
    assert status == 0
    assert "stem" in out and "conv" in out and "add" in out
    status, out, _ = run(capsys, "why", "small_nets:Net", "head", *INPUT)
    assert status == 0
    assert "head" in out


def test_prune_reports_and_writes_the_plan(capsys, nets):
    """The plan is JSON that can be read back, and keeps half of the slots."""
    status, out, _ = run(capsys, "prune", "small_nets:Net", *INPUT, "--ratio", "0.5", "--plan", "plan.json")
    assert status == 0
    assert "stem" in out
    plan = Plan.from_json((nets / "plan.json").read_text())
    assert {len(kept) for kept in plan.groups.values()} == {4}


def test_prune_keeps_a_budget(capsys):
    """What is left is in the first lines; the choice may be made over all groups together."""
    options = ["--macs", "0.5", "--scope", "global", "--criterion", "l1", "--min-keep", "2"]
    status, out, _ = run(capsys, "prune", "small_nets:Net", *INPUT, *options)
    assert status == 0
    assert "MACs" in out and "removed)" in out


def test_a_dry_run_plans_the_same(capsys, nets):
    """Without slicing, the plan is that of a real run."""
    for name, options in (("real.json", []), ("dry.json", ["--dry-run"])):
        assert run(capsys, "prune", "small_nets:Net", *INPUT, "--plan", name, *options)[0] == 0
    assert json.loads((nets / "dry.json").read_text()) == json.loads((nets / "real.json").read_text())


def test_a_module_instance_is_a_model_too(capsys):
    """``package.module:name`` may name a module as well as a callable."""
    assert run(capsys, "prune", "small_nets:ready", *INPUT)[0] == 0


def test_tokens(capsys):
    """Whole numbers for models that read tokens."""
    assert run(capsys, "groups", "small_nets:Tokens", "--input", "ints:2x7")[0] == 0


def test_example_inputs_have_the_shape_and_kind_asked_for():
    """Floats by default, token numbers with ``ints:``."""
    image, tokens = example_inputs(["2x3x4", "ints:5"])
    assert image.shape == (2, 3, 4) and image.is_floating_point()
    assert tokens.shape == (5,) and not tokens.is_floating_point()


def test_a_model_has_the_same_weights_every_time():
    """So that one command prints one thing."""
    first, second = load_model("small_nets:Net"), load_model("small_nets:Net")
    assert (first.stem.weight == second.stem.weight).all()


def test_the_installed_command_is_this_one():
    """The console script leads to ``main``."""
    (script,) = entry_points(group="console_scripts", name="prunus")
    assert script.load() is main


def test_an_operator_that_a_package_registers_is_reached_by_importing_it(tmp_path, monkeypatch, capsys):
    """Such an operator has no Python name; a package that is not there is one clear error."""
    (tmp_path / "registers_twice.py").write_text(
        "import torch\n"
        "LIBRARY = torch.library.Library('prunus_cli', 'DEF')\n"
        "LIBRARY.define('twice(Tensor x) -> Tensor')\n"
        "LIBRARY.impl('twice', lambda x: x * 2, 'CompositeExplicitAutograd')\n"
    )
    monkeypatch.chdir(tmp_path)
    call = "torch.ops.prunus_cli.twice(randn(3, 4))"
    assert main(["rules", "new", "--import", "registers_twice", call]) == 0
    assert "twice: x[*n n2] -> [*n n2]" in capsys.readouterr().out
    assert main(["rules", "new", "--import", "registers_twise", call]) == 2
    assert "importing registers_twise failed" in capsys.readouterr().err
