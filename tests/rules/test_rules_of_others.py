"""Rule files that somebody else has written, perhaps to do harm: one short error, soon; nothing runs."""

import os
import sys
import tracemalloc

import pytest
import torch
from prunus import engine
from prunus.cli import main
from prunus.errors import RuleError, RuleFileError, RuleSyntaxError
from prunus.grammar import did_you_mean, format_rules, parse
from prunus.grammar.limits import SIZE
from prunus.rules import load
from prunus.rules.lint import lint
from torch import nn

LONGEST = 2000  # characters of a message


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Writes a rule file and returns its name; its folder is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write(text, name="a.rules"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    return write


def told(text):
    """The error of parsing a text: of bounded length, with a place."""
    with pytest.raises(RuleSyntaxError) as caught:
        parse(text)
    assert len(str(caught.value)) < LONGEST and caught.value.span is not None
    assert str(caught.value).isprintable() or str(caught.value).replace("\n", "").isprintable()
    return str(caught.value)


# Texts

TEXTS = {
    "a: x[" + "(" * 500: "more than 20 brackets in brackets",
    "a: x[" + "(2 " * 500 + "n" + ")" * 500 + "] -> [n]": "more than 20 brackets in brackets",
    "a: x[" + "9" * 5000 + "] -> [n]": "at most 18 digits",
    "a: roll; multiple n of " + "9" * 5000: "at most 18 digits",
    "module a.B: c = d[" + "9" * 5000 + "]": "at most 18 digits",
    "a: roll; scales x by n ** " + "9" * 5000: "between -100 and 100",
    "a: roll; scales x by n ** 1e999": "between -100 and 100",
    'use "a\0b"': "U+0000",
    "# \x1b[2J a: roll": "U+001B",
    "a: roll  # \u202e": "U+202E",
    "a: roll\u2028b: flip": "U+2028",
    "# \ud800": "U+D800",
    "\u0441onv: roll": "U+0441",
    "a: roll\n\ufeffb: roll": "U+FEFF",
    "a: " + "x" * 1_000_000: "a line has at most 10,000 characters",
    "a: x[n]\n" * (SIZE // 8 + 1): "at most 2,097,152 characters",
    " " * 100_000: "a line has at most",
    "a: " + ",\n  ".join(["x[n]"] * 100) + " -> [n]": "at most 64 operands",
    "a: x[" + "\n  n" * 300 + "] -> [n]": "at most 256 axes",
    "a: x[" + " n" * 4000 + "] -> [": "unexpected end of line",
}


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:24]))
def test_a_text_beyond_the_limits_is_one_short_error(text):
    assert TEXTS[text] in told(text)


WITHIN = [
    "a: roll; scales " + ".".join("a" * 4000) + " by n ** 2",
    "a = " + ".".join("a" * 4000),
    "a: x[" + "(2 " * 19 + "n" + ")" * 19 + "] -> [n]",
    "a: roll" + ";" * 9000,
    "a: roll\r\n\r\n# \u00e9\u4e16\U0001d11e\r\n",
    "\n" * 100_000,
]


@pytest.mark.parametrize("text", WITHIN, ids=lambda text: ascii(text[:24]))
def test_what_is_odd_but_within_the_limits_is_read(text):
    formatted = format_rules(text)
    assert format_rules(formatted) == formatted
    assert parse(formatted, fail=None).statements == parse(text, fail=None).statements


def test_a_long_line_is_shown_in_part():
    """The caret is under what is meant."""
    long = "a: " + ", ".join(f"operand_{i}[n c]" for i in range(300)) + ", bad[@] -> [n c]"
    lines = told(long).splitlines()
    assert lines[2].startswith("    ... ") and lines[2].endswith("bad[@] -> [n c]")
    assert lines[2][lines[3].index("^")] == "@"


# Many of something: the work grows with the file, not with its square.

MANY = {
    "rules": lambda n: "".join(f"r{i} = torch.relu\nr{i}: in <-> out\n" for i in range(n)),
    "rules of one name": lambda n: "a = torch.relu\n" + "a: in <-> out\na: hold in\n" * n,
    "refinements": lambda n: "a = torch.relu\na: in <-> out\n" + "a: hold in\n" * n,
    "refinements of a shipped rule": lambda n: "use default\n" + "conv: hold n\n" * n,
    "clauses": lambda n: "a = torch.relu\na: in <-> out\n" + "  hold in\n" * n,
    "targets": lambda n: "a = " + ",\n  ".join(["torch.relu"] * n) + "\na: in <-> out\n",
    "comments": lambda n: "# x\n" * n + "a = torch.relu\na: in <-> out\n" + "# y\n" * n,
    "comments in a rule": lambda n: "a = torch.relu\na: in <-> out\n" + "  # y\n  hold in\n" * n,
    "rules in a line": lambda n: "a = torch.relu\n" + ("a: in <-> out;" * 60 + "\n") * (n // 60),
    "wrong targets": lambda n: "a: in <-> out\na = " + ",\n  ".join(f"torch.relu{i}" for i in range(n)),
    "wrong factors": lambda n: (
        "a = torch.relu\na: in <-> out\n" + "".join(f"  hold x{i}\n" for i in range(n))
    ),
    "no targets": lambda n: "".join(f"r{i}: in <-> out\n" for i in range(n)),
}


def lines_run(function):
    """How many lines of prunus a function runs."""
    count = 0

    def local(frame, event, arg):
        nonlocal count
        count += event == "line"
        return local

    def trace(frame, event, arg):
        return local if "prunus" in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("kind", MANY)
def test_work_grows_with_the_file(kind, file):
    """Four times the text makes about four times the lines that are run, for loading, linting and layout."""

    def work(count):
        name = file(MANY[kind](count))
        format_rules(MANY[kind](count))
        lint(name)
        try:
            load(name)
        except RuleError as error:
            assert len(str(error)) < LONGEST

    work(10)  # what is done once
    few, many = lines_run(lambda: work(60)), lines_run(lambda: work(240))
    assert many < 6 * few


def test_not_more_mistakes_are_told_than_can_be_read(file):
    found = lint(file(MANY["wrong targets"](400)))
    assert 100 <= len(found) <= 200
    assert all(len(str(one)) < LONGEST for one in found)


def test_what_might_be_meant_is_looked_for_in_bounds():
    """Comparing names takes the square of their length."""
    assert did_you_mean("a" * 100_000, ["a" * 100_001]) is None
    assert did_you_mean("relo", ["a" * 100_000, "relu"]) == "did you mean 'relu'?"


# Files


def loaded(name):
    """The error of loading a file, of bounded length."""
    with pytest.raises(RuleFileError) as caught:
        load(name)
    assert len(str(caught.value)) < LONGEST
    return caught.value


def test_a_file_is_read_once_however_many_use_it(file, monkeypatch):
    """A diamond of 40 files has 2 ** 40 ways through it."""
    for i in range(40):
        file(f'use d{i + 1}.rules\nuse "./d{i + 1}.rules"\n', f"d{i}.rules")
    file("use default\nr = torch.relu\nr: in <-> out; hold in\n", "d40.rules")
    assert len(load("d0.rules").layers) == 42
    assert len(load(["d0.rules", "d7.rules", "d40.rules"]).layers) == 42
    assert lint("d0.rules") == []


def test_a_long_chain_of_files(file):
    for i in range(1200):
        file(f"use c{i + 1}.rules\n", f"c{i}.rules")
    file("r = torch.relu\nr: in <-> out\n", "c1200.rules")
    assert next(layer.name for layer in load("c0.rules").layers).endswith("c1200.rules")
    file("use c0.rules\n", "c1200.rules")
    assert "uses itself" in str(loaded("c0.rules"))


USES = {
    'use "."': "directory",
    'use ".."': "directory",
    'use ""': "directory",
    "use folder.rules": "directory",
    "use pipe.rules": "not a regular file",
    "use loop.rules": "symbolic links",
    'use "/dev/zero"': "not a regular file",
    'use "/dev/stdin"': "",
    'use "/proc/self/mem"': "",
    f'use "{"a" * 5000}"': "name too long",
    f'use "{"a/" * 4000}"': "name too long",
    "use latin.rules": "line 2 is not UTF-8",
    "use wide.rules": "line 1 is not UTF-8",
    "use huge.rules": "at most 2,097,152 bytes",
    "use absent.rules": "no rule file 'absent.rules'",
    "use a.rules": "uses itself",
    "use b.rules": "uses itself",
}


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices")
@pytest.mark.parametrize("text", USES, ids=lambda text: text[:24])
def test_what_is_used_must_be_a_rule_file(text, file, tmp_path):
    """Whatever else there is, nothing is waited for, and the error shows the line."""
    (tmp_path / "folder.rules").mkdir()
    os.mkfifo(tmp_path / "pipe.rules")
    (tmp_path / "loop.rules").symlink_to("loop.rules")
    file(b"a: roll\n# \xff\n", "latin.rules")
    file("a: roll".encode("utf-16"), "wide.rules")
    (tmp_path / "huge.rules").touch()
    os.truncate(tmp_path / "huge.rules", 2**33)
    file("use a.rules", "b.rules")
    error = loaded(file(text))
    assert USES[text].lower() in str(error).lower()
    assert error.span is not None and error.span.line == 1
    assert [one.severity for one in lint("a.rules")] == ["error"]


@pytest.mark.parametrize("path", [".", "/dev/zero", "a\0b", "a" * 5000, "\ud800", "absent.rules"], ids=ascii)
def test_what_is_given_must_be_a_rule_file(path, file, capsys):
    before = [*sys.path]
    loaded(path)
    if "\0" not in path:
        for command in (
            ["rules", "fmt", path],
            ["rules", "check", path],
            ["rules", "explain", "a", "--rules", path],
        ):
            assert main(command) == 2
            err = capsys.readouterr().err
            assert err.startswith("error: ") and len(err) < LONGEST and "Traceback" not in err
    assert sys.path == before


def test_a_used_file_may_be_anywhere(file, tmp_path):
    """Also above, and behind a link; its own uses are found from there."""
    inner = tmp_path / "inner"
    inner.mkdir()
    file("use base.rules\n", "up.rules")
    file("r = torch.relu\nr: in <-> out; hold in\n", "base.rules")
    (inner / "top.rules").write_text('use "../up.rules"\n')
    assert "r" in load(inner / "top.rules").rules


def test_memory_grows_with_the_file_alone():
    text = "# a comment\na: roll\n" * 2000
    parse("a: roll")
    tracemalloc.start()
    try:
        parse(text)
        assert tracemalloc.get_traced_memory()[1] < 200 * len(text)
    finally:
        tracemalloc.stop()


# Modules


def test_loading_runs_the_modules_of_targets_and_layout_and_parsing_do_not(file, tmp_path, monkeypatch):
    """As docs/language.md says where rules of others are spoken of."""
    monkeypatch.syspath_prepend(tmp_path)
    ran = tmp_path / "ran"
    (tmp_path / "others_module.py").write_text(f"open({str(ran)!r}, 'w')\ndef gate(x): return x\n")
    text = "g = others_module.gate\ng: x[n] -> [n]\n"
    parse(text)
    assert main(["rules", "fmt", file(text)]) == 0
    assert not ran.exists()
    load("a.rules")
    assert ran.exists()
    monkeypatch.delitem(sys.modules, "others_module")


def test_targets_are_not_looked_for_in_the_current_folder(file, tmp_path, monkeypatch):
    """Analyzing with a file of rules imports installed modules only; checking one looks beside it."""
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one not in ("", str(tmp_path))])
    ran = tmp_path / "ran"
    (tmp_path / "planted_module.py").write_text(f"open({str(ran)!r}, 'w')\ndef gate(x): return x\n")
    name = file("g = planted_module.gate\ng: x[n] -> [n]\n")
    with pytest.raises(RuleError, match="no package 'planted_module'"):
        engine.analyze(nn.Linear(2, 2), rules=name)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "a.rules").rename(elsewhere / "a.rules")
    monkeypatch.chdir(elsewhere)
    assert main(["rules", "check", "a.rules"]) == 1
    assert not ran.exists()


ODD_TARGETS = [
    "torch.classes.a.b",
    "torch.ops.a.b",
    "torch.__init__.__globals__",
    "torch.nn.nn.nn",
    "this.is.it",
]


@pytest.mark.parametrize("target", [*ODD_TARGETS, ".".join(["torch"] * 1000), "torch." + "a" * 5000])
def test_odd_targets_are_one_error(target, file):
    assert "no target" in str(loaded(file(f"a = {target}\na: in <-> out\n")))


BOOKKEEPING = {
    "in_features = weight[1]": 4,
    "in_features = weight[-1]": 4,
    "in_features = weight[-1] * no_such": 8,
    "in_features = weight[-1] * forward": 8,
    "in_features = weight[7]": 8,
    "in_features = weight[-7]": 8,
    "in_features = no.such[1]": 8,
    "no_such = weight[1]": 8,
    "forward = weight[1]": 8,
    "in_features[0].weight = weight[1]": 8,
}


@pytest.mark.parametrize("entry", BOOKKEEPING)
def test_a_module_rule_of_what_is_not_there_changes_nothing(entry, file):
    """An attribute follows its parameter where both are there; anything else is left as it is."""
    model = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 2))
    name = file(f"use default\nmodule torch.nn.Linear: {entry}\n")
    engine.prune(model, name, example_inputs=torch.randn(2, 3))
    assert model[1].weight.shape == (2, 4)
    assert model[1].in_features == BOOKKEEPING[entry]
