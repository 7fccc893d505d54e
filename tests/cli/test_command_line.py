"""The command line under bad luck: code that exits, interrupts, closed pipes, huge inputs; and its JSON."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest
from prunus.cli import inputs as cli_inputs
from prunus.cli import main
from prunus.cli import models as cli_models
from prunus.engine import Plan
from residual_net import SOURCE

NETS = (
    SOURCE
    + """
print("a greeting of the module")
os.system("echo a greeting of a child")

class Exits(Net):
    def forward(self, x):
        sys.exit(0)

class Unheard(BaseException):
    pass

class Silent(Exception):
    def __str__(self):
        raise ValueError("no words")

def exits(): sys.exit(0)
def raises_long(): raise ValueError("long " * 10_000)
def fails_in_torch(): return torch.zeros(2) @ torch.zeros(3)
def raises_unheard(): raise Unheard("of")
def raises_silent(): raise Silent
def raises_interrupt(): raise KeyboardInterrupt
def runs_out(): raise MemoryError

def waits():
    print("waiting", file=sys.stderr, flush=True)
    time.sleep(60)
"""
)

INPUT = ["--input", "1x3x8x8"]
# As the installed command does, without the current folder in the path.
START = "import sys; sys.path.remove(''); from prunus.cli import main; sys.exit(main())"
COMMAND = [sys.executable, "-c", START]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with a module of nets and modules that cannot be imported, made the current one."""
    (tmp_path / "odd_nets.py").write_text(NETS)
    (tmp_path / "odd_exit.py").write_text("\nraise SystemExit(0)\n")
    (tmp_path / "odd_syntax.py").write_text("def (\n")
    (tmp_path / "odd_need.py").write_text("import no_such_thing\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


# The user's code

ODD = {
    "odd_nets:exits": r"it calls sys\.exit\(0\) \(.*odd_nets.py:\d+\)$",
    "odd_nets:raises_long": r"ValueError: (long )+.* \.\.\. .*\(.*odd_nets.py:\d+\)$",
    "odd_nets:fails_in_torch": r"RuntimeError: .*\(.*odd_nets.py:\d+\)$",
    "odd_nets:raises_unheard": r"Unheard: of \(.*odd_nets.py:\d+\)$",
    "odd_nets:raises_silent": r"Silent \(.*odd_nets.py:\d+\)$",
    "odd_nets:runs_out": r"MemoryError: +\(.*odd_nets.py:\d+\)$",
    "odd_nets:Exits": r"it calls sys\.exit\(0\) \(.*odd_nets.py:\d+\)$",
    "odd_exit:Net": r"it calls sys\.exit\(0\) \(.*odd_exit.py:2\)$",
    "odd_syntax:Net": r"SyntaxError: .*odd_syntax.py, line 1",
    "odd_need:Net": r"no module named 'no_such_thing' \(.*odd_need.py:1\)",
    "builtins:exit": r"it calls sys\.exit\(None\)$",
    "odd nets:Net": "'odd nets' is no name of a module",
    ".odd_nets:Net": "'.odd_nets' is no name of a module",
    "x" * 5000 + ":Net": "does not name a model",
}


@pytest.mark.parametrize("model", ODD, ids=lambda model: model[:30])
def test_what_code_of_the_user_raises_is_one_error_with_its_line(model, capsys):
    """``sys.exit(0)`` is no success, and nothing is a traceback."""
    assert main(["groups", model, *INPUT]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (error,) = re.findall(r"^error: .*", err, re.MULTILINE)
    assert re.search(ODD[model], error)
    assert len(error) < 5000 and "Traceback" not in err


@pytest.mark.parametrize("command", [["groups"], ["prune", "--json"]])
def test_an_interrupt_is_one_line_and_its_own_status(command, capsys):
    assert main([*command, "odd_nets:raises_interrupt", *INPUT]) == 130
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[-1]) == ("", "interrupted")


def test_a_mistake_of_prunus_is_one_line_too(monkeypatch, capsys):
    """The traceback is there for those who ask."""
    monkeypatch.setattr(cli_models, "load_model", lambda name, weights: {}[name])
    assert main(["groups", "odd_nets:Net"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: KeyError: ") and "Traceback" not in err
    monkeypatch.setenv("PRUNUS_TRACEBACK", "1")
    assert main(["groups", "odd_nets:Net"]) == 2
    assert "Traceback" in capsys.readouterr().err


SHAPES = [
    ["1000000x1000000"],
    ["1x3x8x8", "ints:100000x100000"],
    ["16384x16384", "1"],
    ["-1x3"],
    ["0x3"],
    ["1x" + "9" * 5000],
    ["x".join("1" * 40)],
    ["1.5x2"],
    ["²x2"],
    [""],
    ["nan"],
]


@pytest.mark.parametrize("shapes", SHAPES, ids=lambda shapes: " ".join(shapes)[:20])
def test_inputs_are_bounded_before_they_are_made(shapes, monkeypatch, capsys):
    def made(*_):
        raise AssertionError("a tensor is made")

    monkeypatch.setattr(cli_inputs.torch, "randn", made)
    monkeypatch.setattr(cli_inputs.torch, "randint", made)
    assert main(["groups", "odd_nets:Net", *(f"--input={shape}" for shape in shapes)]) == 2
    err = capsys.readouterr().err
    assert re.match(r"error: --input .*\n\Z", err) and len(err) < 5000


# JSON

ANSWERS = {
    "groups": {"model", "groups", "unknown"},
    "prune": {"model", "inputs", "parameters", "macs", "groups", "notes", "unknown", "plan"},
    "why": {"kind", "headline", "start", "end", "path", "relation", "cuts", "also", "held", "axes", "meeting"}
    | {"remarks"},
}


@pytest.mark.parametrize("command", ANSWERS)
def test_json_has_the_names_that_its_help_lists(command, capsys):
    names = ["stem", "conv"] if command == "why" else []
    assert main([command, "odd_nets:Net", *names, *INPUT, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == ANSWERS[command]
    assert main([command, "--help"]) == 0
    told = capsys.readouterr().out
    assert all(f'"{name}"' in told for name in ANSWERS[command])


def test_json_says_what_the_table_does(capsys):
    assert main(["groups", "odd_nets:Net", *INPUT, "--json"]) == 0
    stem, head = json.loads(capsys.readouterr().out)["groups"]
    assert stem == {
        "name": "stem.out",
        "kind": "out",
        "slots": 8,
        "layers": ["stem", "conv", "head"],
        "axes": stem["axes"],
        "exact": True,
        "tie": None,
        "blocked": None,
    }
    assert "head.weight[1]" in stem["axes"] and "axis 1" in head["blocked"]


def test_json_of_a_prune_has_costs_and_the_plan(capsys):
    assert main(["prune", "odd_nets:Net", *INPUT, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["parameters"]["before"] > data["parameters"]["after"]
    assert data["macs"]["before"] > data["macs"]["after"]
    assert [(one["name"], one["slots"], one["kept"]) for one in data["groups"]] == [
        ("stem.out", 8, 4),
        ("head.out", 5, 5),
    ]
    assert len(Plan.from_json(json.dumps(data["plan"])).groups["stem.out"]) == 4


@pytest.mark.parametrize("words", [["groups", "odd_nets:Nett"], ["prune", "odd_nets:Net", "--ratio", "half"]])
def test_an_error_is_json_too(words, capsys):
    """On standard output for programs, on standard error for people."""
    assert main([*words, "--json"]) == 2
    out, err = capsys.readouterr()
    assert err.endswith(f"error: {json.loads(out)['error']}\n")


# Processes of their own


def run(*words, **options):
    """The command as it is installed, with its output in pipes."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run([*COMMAND, *words], text=True, **pipes)


def test_nothing_but_the_answer_is_on_standard_output():
    """Not what the model's module prints, nor a process that it starts."""
    found = run("groups", "odd_nets:Net", *INPUT, "--json")
    assert json.loads(found.stdout)["groups"]
    assert "greeting of the module" in found.stderr and "greeting of a child" in found.stderr
    assert "\x1b" not in found.stderr and "analyzing" not in found.stderr  # progress is for terminals


def test_an_interrupt_from_the_keyboard():
    # Processes in the background of a shell are born deaf to interrupts.
    start = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {START}"
    words = [sys.executable, "-c", start, "groups", "odd_nets:waits"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    said = ""
    while "waiting" not in said:
        said = process.stderr.readline()
        assert said
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.stderr.read() == "interrupted\n"
    assert process.wait() == 130


def test_a_reader_that_has_seen_enough():
    """No traceback, and no complaint at the end of the process either."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as pipe:
        found = run("--help", stdout=pipe)
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device")
def test_a_full_disk():
    with open("/dev/full", "w") as full:
        found = run("--help", stdout=full)
    assert found.returncode == 2
    assert re.fullmatch(r"error: .*No space left on device\n", found.stderr)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device")
def test_an_error_that_a_full_disk_does_not_take():
    """It is still one line on the other stream, and the end of the process complains of nothing else."""
    with open("/dev/full", "w") as full:
        found = run("groups", "--json", "nothing", stdout=full)
    assert found.returncode == 2
    assert re.fullmatch(r"(W\d+.*\n)*error: 'nothing' does not name a model; .*\n", found.stderr)


def test_a_terminal_shows_that_work_goes_on(here):
    """In colours unless NO_COLOR is set, and in ASCII where the locale has nothing else; never too narrow."""
    outside, inside = pty.openpty()
    environment = {
        **os.environ,
        "TERM": "xterm",
        "NO_COLOR": "1",
        "COLUMNS": "30",
        "PYTHONIOENCODING": "ascii",
    }
    words = [*COMMAND, "groups", "odd_nets:Net", *INPUT]
    process = subprocess.Popen(words, stdout=inside, stderr=inside, stdin=inside, env=environment)
    os.close(inside)
    said = b""
    while True:
        try:
            said += os.read(outside, 4096)
        except OSError:  # the other side is closed
            break
    assert process.wait() == 0
    text = said.decode("ascii")
    assert "analyzing ..." in text and "stem.out" in text and "the model's" in text
    assert not re.search(r"\x1b\[3\d", text)


def test_the_current_folder_is_looked_into_for_nothing_else(here):
    """Not by ``python -m``, and not for modules that the named one does not stand for."""
    for name in ("torch", "rich", "attrs", "lark", "torchvision", "argcomplete"):
        (here / f"{name}.py").write_text(f"raise SystemExit('{name} of the current folder')\n")
    module = [sys.executable, "-m", "prunus", "rules", "fmt", "--check"]
    found = subprocess.run(module, capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
    found = run("rules", "new", "torch.roll")
    assert "of the current folder" not in found.stderr + found.stdout
    assert found.returncode == 0, found.stderr


def test_version(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"prunus \d+\.\d+.*\n", capsys.readouterr().out)


def test_completion(here):
    """Commands and options, without waiting for torch."""
    pytest.importorskip("argcomplete")
    answer = here / "answer"
    for line, expected in {
        "prunus re": "report",
        "prunus groups --in": "--input",
        "prunus rules c": "check",
    }.items():
        environment = {
            **os.environ,
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_SHELL": "bash",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
        }
        run(env=environment)
        assert answer.read_text().split("\v")[0].strip() == expected
