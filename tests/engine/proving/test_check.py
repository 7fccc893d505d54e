"""``prunus rules check``: the shipped rules obey the law, reports are reliable, nothing is left behind."""

import contextlib
import io
import json
from collections import Counter

import pytest
import torch
from prunus import cli
from prunus.engine.proving.check import check
from prunus.engine.proving.verdict import EXACT, HELD, MIXES, SUMS
from prunus.rules import load

# One rule of each kind: drawn calls, examples, a verb, random results, new tensors.
SOME = ("layernorm", "softmax", "batchnorm", "concat", "filled", "new", "grouped_mm")

USERS = """\
#: example corpus_layers.Gated(4, 6)(randn(3, 4))
block     = corpus_layers.Gated
block:      x[*b c], self.up.weight[h c], self.gate.weight[h c], self.down.weight[o h], self.down.bias[o]
            -> [*b o]
            o -> next.in
            h -> next.in

#: example corpus_layers.SquareGate.apply(randn(2, 3, 8))
squares   = corpus_layers.SquareGate
squares:    x[*b (2 c)] -> [*b c];  zero x

gate      = corpus_layers.gate
gate:       x[n (2 c) *s] -> [n c *s]
"""


def run(*arguments, capsys):
    """The exit status of ``prunus rules check`` and what it prints."""
    status = cli.main(["rules", "check", *map(str, arguments)])
    return status, capsys.readouterr()


@pytest.fixture(scope="session")
def shipped():
    """What ``prunus rules check --json`` finds of the shipped rules, by their names."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = cli.main(["rules", "check", "--json"])
    found = json.loads(printed.getvalue())
    return status, {one["rule"]: one for one in found["rules"]}, found


def test_every_shipped_rule_obeys_the_law(shipped):
    """No operation contradicts its rule, and no lint has anything to say."""
    status, rules, found = shipped
    assert [failure["message"] for one in rules.values() for failure in one["failures"]] == []
    assert found["lints"] == [] and status == 0
    assert found["summary"].endswith("; 0 rules failed")


def test_every_shipped_rule_has_been_tried(shipped):
    """Each rule speaks for something, was tried on all of it, and has a verdict at least."""
    pytest.importorskip("torchvision", reason="some shipped rules are for its operators")
    _, rules, _ = shipped
    assert set(rules) == set(load().rules)
    assert [name for name, one in rules.items() if not one["targets"]] == []
    assert [name for name, one in rules.items() if one["calls"] < len(one["targets"])] == []
    silent = [one for one in rules.values() if not one["verdicts"]]
    assert [one["rule"] for one in silent if "needs an accelerator" not in " ".join(one["notes"])] == []


def test_most_factors_are_exact_and_all_verdicts_occur(shipped):
    """The law tells its verdicts apart: the shipped rules show every one but ``wrong``."""
    _, rules, _ = shipped
    counts = Counter(kind for one in rules.values() for kind in one["verdicts"].values())
    assert set(counts) == {EXACT, SUMS, MIXES, HELD}
    assert counts[EXACT] > counts.total() / 2


def test_what_is_declared_has_been_seen(shipped):
    """A softmax mixes, a cumulative sum adds up, an activation does neither."""
    kinds = {name: one["verdicts"] for name, one in shipped[1].items()}
    assert kinds["softmax"] == {"p": EXACT, "c": MIXES, "s": EXACT}
    assert kinds["cumsum"]["c"] == SUMS
    assert kinds["pointwise"] == {"in": EXACT}
    assert kinds["sort"]["c"] == HELD


def test_random_results_are_said_to_be(shipped):
    """Where results differ from run to run, the user learns that little could be compared."""
    _, rules, _ = shipped
    assert any("from run to run" in note for note in rules["anything"]["notes"])
    assert not any("from run to run" in note for note in rules["softmax"]["notes"])


def test_as_json(capsys):
    """``--json`` has a record for each rule, the lints and the summary; ``--rule`` chooses."""
    status, printed = run("--json", "--rule", "softmax", "--rule", "concat", capsys=capsys)
    found = json.loads(printed.out)
    by_name = {one["rule"]: one for one in found["rules"]}
    assert status == 0
    assert set(by_name) == {"softmax", "concat"} and found["lints"] == []
    assert by_name["softmax"]["verdicts"] == {"p": "exact", "c": "mixes", "s": "exact"}
    assert by_name["softmax"]["failures"] == []
    assert "torch.softmax" in by_name["softmax"]["targets"]
    assert found["summary"].startswith("2 rules for ")


def test_the_same_twice(capsys):
    """Two runs give the same JSON, whatever random numbers were drawn before."""
    options = [option for name in SOME for option in ("--rule", name)]
    torch.manual_seed(1)
    _, first = run("--json", *options, capsys=capsys)
    torch.manual_seed(2)
    _, second = run("--json", *options, capsys=capsys)
    assert first.out == second.out


@pytest.mark.parametrize("flags", [(False, False), (True, True), (True, False)])
def test_nothing_is_left_behind(flags):
    """Random numbers, the deterministic-algorithms flag and gradients are as before, even with failures."""
    rules = load()
    strict = torch.are_deterministic_algorithms_enabled()
    lenient = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(flags[0], warn_only=flags[1])
    try:
        state = torch.get_rng_state()
        check(rules.rules["filled"], rules)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.are_deterministic_algorithms_enabled() == flags[0]
        assert torch.is_deterministic_algorithms_warn_only_enabled() == flags[1]
        assert torch.is_grad_enabled()
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=lenient)


def test_the_first_line_of_an_operation_is_enough(tmp_path, capsys):
    """What an operation says at length is cut short: every error is a few lines."""
    file = tmp_path / "my.rules"
    file.write_text("conv = torch.conv2d\nconv: input[n c *x], weight[c n] -> [n c *x]\n")
    status, printed = run(file, capsys=capsys)
    assert status == 1
    assert max(map(len, printed.out.split("error:"))) < 800


# --- exit statuses --------------------------------------------------------------------------------------


def test_a_users_file_passes(tmp_path, capsys):
    """A user's modules, autograd functions and custom operators are checked as torch's functions are."""
    file = tmp_path / "my.rules"
    file.write_text(USERS)
    status, printed = run("--json", file, capsys=capsys)
    found = json.loads(printed.out)
    assert status == 0, printed.out
    verdicts = {one["rule"]: one["verdicts"] for one in found["rules"]}
    assert verdicts == {
        "block": dict.fromkeys(["b", "c", "h", "o"], "exact"),
        "squares": {"b": "exact", "c": "exact"},
        "gate": {"n": "exact", "c": "exact", "s": "exact"},
    }


@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        ("self.gate.weight[h c], ", "", "block"),
        ("self.up.weight[h c]", "self.up.weight[c h]", "block"),
        ("x[*b (2 c)]", "x[*b (c 2)]", "squares"),
        ("x[n (2 c) *s]", "x[n (c 2) *s]", "gate"),
    ],
)
def test_a_users_mistake_is_found(right, wrong, rule, tmp_path, capsys):
    """One change makes one rule of the file fail, and the exit status 1."""
    assert USERS.count(right) == 1
    file = tmp_path / "my.rules"
    file.write_text(USERS.replace(right, wrong))
    status, printed = run("--json", file, capsys=capsys)
    failed = [one["rule"] for one in json.loads(printed.out)["rules"] if one["failures"]]
    assert status == 1 and failed == [rule]


def test_only_what_is_the_users_is_checked(tmp_path, capsys):
    """``use default`` lays the shipped rules under a file; they are not checked again."""
    file = tmp_path / "my.rules"
    file.write_text("use default\nsoftmax: hold c\n")
    status, printed = run("--json", file, capsys=capsys)
    found = json.loads(printed.out)
    assert [one["rule"] for one in found["rules"]] == ["softmax"]
    assert found["rules"][0]["verdicts"]["c"] == "held" and status == 0


def test_a_lint_fails_without_running_anything(tmp_path, capsys):
    """What cannot be loaded is not tried: the lint is printed and the exit status is 1."""
    file = tmp_path / "my.rules"
    file.write_text("relu = torch.rellu\nrelu: in <-> out\n")
    status, printed = run(file, capsys=capsys)
    assert status == 1
    assert "error: no target 'torch.rellu'" in printed.out and "calls tried" not in printed.out


def test_warnings_do_not_fail(tmp_path, capsys):
    """A lint that is a warning is printed, and the exit status stays 0."""
    file = tmp_path / "my.rules"
    file.write_text("three = corpus_layers.only_three\nthree: x[n c] -> [n]\n")
    status, printed = run(file, capsys=capsys)
    assert status == 0 and "warning: 'c' is written only once in three" in printed.out


def test_an_operator_that_returns_nothing(tmp_path, capsys):
    """It is tried on what it writes."""
    file = tmp_path / "my.rules"
    rule = "into: out[*b c], x[*b c], weight[c] -> [*b c]; zero x weight"
    file.write_text(f"use default\ninto = corpus_layers.scale_into\n{rule}\n")
    status, printed = run(file, capsys=capsys)
    assert status == 0 and "exact: b, c" in printed.out
    file.write_text(file.read_text().replace("weight[c]", "weight[_]"))
    assert run(file, capsys=capsys)[0] == 1


@pytest.mark.parametrize("arguments", [["nowhere.rules"], ["--rule"], ["--rule", "softmx"], ["--verdict"]])
def test_bad_usage(arguments, tmp_path, monkeypatch, capsys):
    """A file, a rule or an option that does not exist gives exit status 2 and is named."""
    monkeypatch.chdir(tmp_path)
    try:
        status = cli.main(["rules", "check", *arguments])
    except SystemExit as leaving:
        status = leaving.code
    assert status == 2 and "error" in capsys.readouterr().err
