"""The canonical form of rule files: what it looks like, and that it changes nothing but the layout."""

import ast
import io
import re
from contextlib import suppress
from pathlib import Path

import prunus
import pytest
from hypothesis import HealthCheck, given, settings
from prunus.cli import main
from prunus.errors import RuleSyntaxError
from prunus.grammar import format_rules, format_statement, parse
from rule_texts import rule_texts

ROOT = Path(prunus.__file__).parent
FOLDERS = ("rules", "examples", "docs", "tests")
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.rules"))]
LAYOUT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def tree(text):
    """The statements of a text, comments and examples included; rules with mistakes in them too."""
    return parse(text, fail=lambda _: None).statements


def check(text, comments):
    """The canonical form has the same tree and comments, and is its own canonical form."""
    formatted = format_rules(text)
    assert tree(formatted) == tree(text)
    for comment in comments:
        assert formatted.count(comment) == text.count(comment)
    assert format_rules(formatted) == formatted
    assert "\r" not in formatted and "\n\n\n" not in formatted
    assert not re.search(r"[ \t]\n|\A\n|\n\n\Z", formatted)


def rule_texts_in_tests():
    """Every string in the tests that is a rule file with a signature, or a verb after a colon."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and ":" in node.value:
                with suppress(RuleSyntaxError):
                    if tree(node.value):
                        yield node.value


def test_the_rule_texts_of_the_tests():
    """So does every rule text that some test is about."""
    texts = list(rule_texts_in_tests())
    assert len(texts) > 100
    for text in texts:
        check(text, [])


# What is written, and its canonical form.
CASES = r"""conv=torch.conv1d,torch.conv2d;conv:input[ n  in *x ],weight[out in *k]->[n out *y];out->next.in
----
conv      = torch.conv1d, torch.conv2d
conv:       input[n in *x], weight[out in *k] -> [n out *y];  out -> next.in
====
a_long_name_for_a_rule = torch.relu
a_long_name_for_a_rule: in <-> out
----
a_long_name_for_a_rule = torch.relu
a_long_name_for_a_rule: in <-> out
====
gate: x[n ((2) c) *s], tensors ... [(a b + (c d))], bias[c] ? -> [n c], [c]?
----
gate:       x[n (2 c) *s], tensors...[(a b + c d)], bias[c]? -> [n c], [c]?
====
r: roll

   where g = groups; where *x = *k
   at a = dim0
   at c = sizes [ 0 ].width ; macs 2 n(g out)*k+n
   zero
----
r:          roll;  where g = groups, *x = *k;  at a = dim0, c = sizes[0].width;  macs 2 n (g out) *k + n;  zero
====
r: input[n (g in) *x], weight[(g out) in *k] -> [n (g out) *y]; out -> next.in; zero input weight + bias; macs n g out
----
r:          input[n (g in) *x], weight[(g out) in *k] -> [n (g out) *y]
            out -> next.in
            zero input weight + bias
            macs n g out
====
r: first_operand[n c h w], second_operand[n c h w], third_operand[n c h w] -> [n c h w], [n c h w], [n c h w], [w]
----
r:          first_operand[n c h w], second_operand[n c h w], third_operand[n c h w]
            -> [n c h w], [n c h w], [n c h w], [w]
====
r: hold a; macs aaaaaaaaa bbbbbbbbb ccccccccc + ddddddddd eeeeeeeee fffffffff + ggggggggg hhhhhhhhh iiiiiiiii + jjjjjjjj
----
r:          hold a
            macs aaaaaaaaa bbbbbbbbb ccccccccc + ddddddddd eeeeeeeee fffffffff + ggggggggg hhhhhhhhh iiiiiiiii
                + jjjjjjjj
====
module torch.nn.Bilinear :in1_features=weight[1] ,in2_features=weight[ 2 ]*groups,  out_features = weight[0], a = b[0]
----
module torch.nn.Bilinear: in1_features = weight[1], in2_features = weight[2] * groups, out_features = weight[0],
            a = b[0]
====


# A header.



# Of the rule.
#: example f(3)
a: roll   # behind
   # own


b:# of the head
  # above
  x[n],# first
  y[n  # inside
    c] ->
    # above the result
    [n]
  # above the clause
  hold n # last
# The end.

----
# A header.

# Of the rule.
#: example f(3)
a:          roll  # behind
# own

b:  # of the head
            # above
            x[n],  # first
            y[n c]  # inside
            # above the result
            -> [n]
            # above the clause
            hold n  # last
# The end.
====
use   default;use "base.rules"
use "my rules/a.rules"
----
use default
use base.rules
use "my rules/a.rules"
====
# Over the targets.
d = x.y; d: roll; block c "why # not;"
----
# Over the targets.
d         = x.y
d:          roll;  block c "why # not;"
"""  # noqa: E501


@pytest.mark.parametrize("case", CASES.removesuffix("\n").split("\n====\n"))
def test_canonical_form(case):
    """Columns, blanks, line breaks and comments, to the letter."""
    text, formatted = case.split("\n----\n")
    assert format_rules(text) == formatted + "\n"
    check(text, [])


def test_a_statement():
    """A statement alone is written as it would stand in a file, without its comments."""
    targets, rule, use = parse("# c\na = x.y # d\na: reduce\n   hold r # e\nuse default").statements
    written = [format_statement(one) for one in (targets, rule, use)]
    assert written == ["a         = x.y", "a:          reduce;  hold r", "use default"]


@settings(LAYOUT)
@given(rule_texts())
def test_nothing_but_the_layout_changes(case):
    """Any file keeps its tree and each of its comments, and is formatted once and for all."""
    check(*case)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_files_in_this_repository(path):
    """So do the shipped rules and those of the examples."""
    text = path.read_text()
    check(text, [line.strip() for line in text.splitlines() if line.startswith("#")])


def test_files_are_rewritten(tmp_path, capsys):
    """``fmt`` rewrites what is not in its canonical form, and leaves alone what is; modes stay."""
    good, bad = tmp_path / "good.rules", tmp_path / "bad.rules"
    good.write_text("a:          roll\n")
    bad.write_bytes("# ü\r\na: roll\r\n".encode())
    bad.chmod(0o640)
    before = good.stat().st_mtime_ns
    assert main(["rules", "fmt", "--check", str(good), str(bad)]) == 1
    assert capsys.readouterr().out == f"{bad}\n"
    assert main(["rules", "fmt", str(good), str(bad)]) == 0
    assert bad.read_bytes().decode() == "# ü\na:          roll\n"
    assert (good.stat().st_mtime_ns, bad.stat().st_mode & 0o777) == (before, 0o640)
    assert main(["rules", "fmt", "--check", str(good), str(bad)]) == 0
    assert capsys.readouterr().out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.rules", "good.rules"]


def test_standard_input(capsys, monkeypatch):
    """``-`` formats standard input to standard output."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a: roll")))
    assert main(["rules", "fmt", "-"]) == 0
    assert capsys.readouterr().out == "a:          roll\n"


def test_nothing_is_touched_after_an_error(tmp_path, capsys):
    """A syntax error is shown as ever, and no file is changed, not even the good ones."""
    good, bad = tmp_path / "good.rules", tmp_path / "bad.rules"
    good.write_text("a: roll")
    bad.write_text("a: x[n\n")
    assert main(["rules", "fmt", str(good), str(bad)]) == 2
    assert f"{bad}:1:7" in capsys.readouterr().err
    assert (good.read_text(), bad.read_text()) == ("a: roll", "a: x[n\n")


@pytest.mark.parametrize("content", [None, b"# \xff"], ids=["missing", "no text"])
def test_unreadable_files(content, tmp_path, capsys):
    """What cannot be read is one line of error."""
    path = tmp_path / "a.rules"
    if content is not None:
        path.write_bytes(content)
    assert main(["rules", "fmt", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: cannot read {path}: ")


def test_a_failed_write_changes_nothing(tmp_path, monkeypatch, capsys):
    """If a file cannot be replaced, it stays as it was, nothing is left beside it, and the error says so."""
    path = tmp_path / "a.rules"
    path.write_text("a: roll")

    def refuse(*_):
        raise OSError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    assert main(["rules", "fmt", str(path)]) == 2
    assert capsys.readouterr().err == f"error: cannot write {path}: Permission denied\n"
    assert [one.name for one in tmp_path.iterdir()] == ["a.rules"] and path.read_text() == "a: roll"


def test_a_link_stays_a_link(tmp_path):
    """A file that is reached through a link is rewritten where it lies."""
    real, link = tmp_path / "real.rules", tmp_path / "link.rules"
    real.write_text("a: roll")
    link.symlink_to(real)
    assert main(["rules", "fmt", str(link)]) == 0
    assert link.is_symlink() and real.read_text() == "a:          roll\n"


def test_the_shipped_rules_are_formatted(capsys):
    """All rule files of this repository are in their canonical form: run ``prunus rules fmt`` on them."""
    assert main(["rules", "fmt", "--check", *map(str, FILES)]) == 0, capsys.readouterr().out
