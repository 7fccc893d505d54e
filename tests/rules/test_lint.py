"""Static lints: what each finds, what it leaves alone, and that the shipped rules are clean."""

from pathlib import Path

import prunus
import pytest
from hypothesis import HealthCheck, given, settings
from prunus.errors import RuleError, RuleFileError
from prunus.rules import load
from prunus.rules.lint import lint
from rule_texts import rule_texts

ROOT = Path(prunus.__file__).parent
SHIPPED = sorted((ROOT / "rules").glob("*.rules"))

# What is written, and what is said about it.
FINDINGS = r"""m = torch.rellu
m: in <-> out
n = torch.relu, torch.sogmoid
n: in <-> out
----
error: no target 'torch.rellu'
  my.rules:1:5
    m = torch.rellu
        ^^^^^^^^^^^
help: did you mean 'relu'?
error: no target 'torch.sogmoid'
  my.rules:3:17
    n = torch.relu, torch.sogmoid
                    ^^^^^^^^^^^^^
help: did you mean 'sigmoid'?
====
m = nowhere.at.all
m: in <-> out
----
error: no target 'nowhere.at.all'
  my.rules:1:5
    m = nowhere.at.all
        ^^^^^^^^^^^^^^
help: no package 'nowhere' is installed
====
m = torch.ops.nowhere.gate
m: in <-> out
----
error: no target 'torch.ops.nowhere.gate'
  my.rules:1:5
    m = torch.ops.nowhere.gate
        ^^^^^^^^^^^^^^^^^^^^^^
help: name it as the Python module that defines it does: 'mypkg.ops.gate'
====
m = torch.nn.Linear
m: input[*n i], weight[o i] -> [*n o]
----
error: 'weight' is not an argument of torch.nn.Linear
  my.rules:2:17
    m: input[*n i], weight[o i] -> [*n o]
                    ^^^^^^
help: its arguments are input; a parameter is written 'self.weight'
====
m = torch.conv1d
m: inptu[n i x], weight[o i k] -> [n o y]
   where k = grops
   hold x, y, k
----
error: 'inptu' is not an argument of torch.conv1d
  my.rules:2:4
    m: inptu[n i x], weight[o i k] -> [n o y]
       ^^^^^
help: did you mean 'input'?
error: 'grops' is not an argument of torch.conv1d
  my.rules:3:14
    where k = grops
              ^^^^^
help: did you mean 'groups'?
====
m = torch.amax
m: reduce; mixes r; zero inptu
----
error: 'inptu' is not an argument of torch.amax
  my.rules:2:26
    m: reduce; mixes r; zero inptu
                             ^^^^^
help: did you mean 'input'?
====
m = torch.relu
m: splt(in)
n = torch.tanh
n: input[x] -> [x]; hold z; mixes w
----
error: unknown verb 'splt'
  my.rules:2:4
    m: splt(in)
       ^^^^
help: did you mean 'split'?
error: 'z' is not a factor of the signature of n
  my.rules:4:26
    n: input[x] -> [x]; hold z; mixes w
                             ^
error: 'w' is not a factor of the signature of n
  my.rules:4:35
    n: input[x] -> [x]; hold z; mixes w
                                      ^
====
m = torch.relu
m: roll; mixes c
n = torch.amax
n: reduce; mixes c
----
error: 'c' is not a factor of 'roll'
  my.rules:2:16
    m: roll; mixes c
                   ^
help: write a signature if it should have one
error: 'c' is not a factor of 'reduce'
  my.rules:4:18
    n: reduce; mixes c
                     ^
help: it has r
====
m = torch.rellu
m: input[n, c] -> [n]
----
error: unexpected ','
  my.rules:2:11
    m: input[n, c] -> [n]
              ^
help: axes are separated by blanks: [n c h w]
====
m = torch.nn.functional.linear
m: input[*b in], weight[outt in] -> [*b out]
----
warning: 'outt' is written only once in m
  my.rules:2:25
    m: input[*b in], weight[outt in] -> [*b out]
                            ^^^^
help: did you mean 'out'?
warning: 'out' is written only once in m
  my.rules:2:41
    m: input[*b in], weight[outt in] -> [*b out]
                                            ^^^
help: did you mean 'outt'?
====
m = torch.embedding
m: input[*b], weight[v d] -> [*b d]
----
warning: 'v' is written only once in m
  my.rules:2:22
    m: input[*b], weight[v d] -> [*b d]
                         ^
help: write 'hold v' if it is meant to stay, or '_' to say nothing of this axis
====
m = torch.relu
m: input[n (a b)] -> [n a b]
n = torch.tanh
n: input[n (a b)] -> [n (a b)]
o = torch.cos
o: input[(2 + (a b) + (a c))] -> [(a + b + c)]
----
error: the sizes of 'a' and 'b' cannot be told
  my.rules:4:13
    n: input[n (a b)] -> [n (a b)]
                ^
help: say how large one is, for example 'where a = ...'
error: the sizes of 'a', 'b' and 'c' cannot be told
  my.rules:6:16
    o: input[(2 + (a b) + (a c))] -> [(a + b + c)]
                   ^
help: say how large one is, for example 'where a = ...'
====
m = torch.relu
m: in <-> out
m: input[*s] -> [*s]
----
warning: rule 'm' replaces the one of my.rules:2
  my.rules:3:1
    m: input[*s] -> [*s]
    ^
help: give one of them another name
====
m = torch.relu, torch.tanh
m: in <-> out
n = torch.tanh, torch.relu_, torch.cos, torch.cos
n: in <-> out
----
warning: 'torch.tanh' is already a target of 'm', my.rules:1
  my.rules:3:5
    n = torch.tanh, torch.relu_, torch.cos, torch.cos
        ^^^^^^^^^^
help: the later one counts; remove one of them
warning: 'torch.cos' is already a target of 'n', my.rules:3
  my.rules:3:41
    n = torch.tanh, torch.relu_, torch.cos, torch.cos
                                            ^^^^^^^^^
help: the later one counts; remove one of them
====
m = torch.relu
n: in <-> out
----
error: no rule is called 'm'
  my.rules:1:1
    m = torch.relu
    ^
help: did you mean 'mv'?
error: rule 'n' has no targets
  my.rules:2:1
    n: in <-> out
    ^
help: write 'n = ...' above it
====
covn: hold g
m = torch.relu
m: mixes c
----
error: no rule 'covn' to refine
  my.rules:1:1
    covn: hold g
    ^^^^
help: did you mean 'conv'?
error: rule 'm' has no body
  my.rules:3:1
    m: mixes c
    ^
help: give it a signature or a relation: 'input[...] -> [...]'
====
use nonsense
n = torch.amax
n: reduce; at r = dim
----
error: no rule file 'nonsense'
  my.rules:1:1
    use nonsense
    ^^^^^^^^^^^^
help: write 'use default' or a path
warning: 'r = dim' says nothing to a verb
  my.rules:3:15
    n: reduce; at r = dim
                  ^^^^^^^
help: remove it: a verb reads the arguments itself
"""


@pytest.mark.parametrize("case", FINDINGS.strip().split("\n====\n"))
def test_findings(case):
    """Every finding of a text, in the order of its lines, to the letter."""
    text, message = case.split("\n----\n")
    assert "\n".join(map(str, lint("my.rules", text))) == message


CLEAN = {
    "a user's rule replaces a shipped one": "conv = torch.conv2d\nconv: input[n c *s] -> [n c *s]",
    "and a user's target goes to another rule": "m = torch.relu\nm: input[*s] -> [*s]",
    "a shipped rule is refined": "conv: hold g",
    "a rule is refined in its own file": "m = torch.embedding\n"
    "m: input[*b], weight[v d] -> [*b d]\nm: hold v",
    "a product whose part has a size of its own": "m = torch.relu\nm: input[n (a b)] -> [n a b]",
    "a product with where": "m = torch.pixel_shuffle\n"
    "m: input[n (c r q)] -> [n (c r q)]; where r = upscale_factor, q = upscale_factor",
    "a part that is left over": "m = torch.relu\nm: input[a (a b)] -> [(a b) (b (a + c))]; hold c",
    "a part that another operand tells": "m = torch.add\nm: input[(a b)], other[b] -> [(a b)]",
    "nothing": "",
}


@pytest.mark.parametrize("case", CLEAN)
def test_clean(case):
    """What is right is left alone."""
    assert lint("my.rules", CLEAN[case]) == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_the_shipped_rules_are_clean(path):
    """The rules that prunus ships have no findings."""
    assert lint(path) == []


def test_the_examples_are_clean(monkeypatch):
    """So have the rules of the examples, where their operations can be imported."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    assert lint(ROOT / "examples" / "gated.rules") == []


def test_a_shipped_file_counts_with_the_others():
    """The text of a shipped file is linted as part of the shipped rules, where it may clash with others."""
    (finding,) = lint(
        ROOT / "rules" / "nn.rules", (ROOT / "rules" / "nn.rules").read_text() + "sum: in <-> out\n"
    )
    assert finding.message.startswith("rule 'sum' replaces the one of shape.rules:")


def test_files_are_read(tmp_path):
    """Without a text the file is read; what is wrong in a file that it uses is found there."""
    (tmp_path / "top.rules").write_text("use base.rules\nmine: hold c\n")
    base = tmp_path / "base.rules"
    base.write_text("mine = torch.relu\nmine: input[c] -> [c]\n")
    assert lint(tmp_path / "top.rules") == []
    base.write_text("mine = torch.relu\nmine: input[c] -> c\n")
    (finding,) = lint(tmp_path / "top.rules")
    assert (finding.severity, finding.span.file, finding.span.line) == ("error", str(base), 2)
    base.write_text("use top.rules")
    (finding,) = lint(tmp_path / "top.rules")
    assert "uses itself" in finding.message


def test_a_missing_file(tmp_path):
    """There is nothing to lint in a file that is not there."""
    with pytest.raises(RuleError, match="no rule file"):
        lint(tmp_path / "none.rules")


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(rule_texts())
def test_any_file_can_be_linted(tmp_path_factory, case):
    """Whatever a file says, there are findings and no crash; one without errors can be loaded."""
    text, _ = case
    found = lint("my.rules", text)
    assert all(str(finding).startswith(("error: ", "warning: ")) for finding in found)
    path = tmp_path_factory.mktemp("rules") / "my.rules"
    path.write_text(text, newline="")
    if any(one.severity == "error" and "cannot be told" not in one.message for one in found):
        with pytest.raises(RuleFileError):
            load(["default", path])
    else:
        load(["default", path])


@pytest.mark.parametrize("case", FINDINGS.strip().split("\n====\n"))
def test_errors_are_what_loading_raises(case, tmp_path):
    """A file with an error cannot be loaded, unless it is a rule that no call fits; one with warnings can."""
    text, message = case.split("\n----\n")
    path = tmp_path / "my.rules"
    path.write_text(text)
    loads = "error:" not in message or "cannot be told" in message
    try:
        load(["default", path])
    except RuleFileError:
        assert not loads
    else:
        assert loads
