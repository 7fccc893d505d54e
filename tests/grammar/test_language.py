"""The ``.rules`` language: every piece of syntax, positions, comments, and what each error looks like."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from prunus.errors import RuleError, RuleSyntaxError
from prunus.grammar import parse, report
from prunus.grammar.ast import (
    Anything,
    At,
    Block,
    Bookkeeping,
    Constant,
    Factor,
    Fixed,
    Flow,
    Hold,
    Macs,
    Mixes,
    ModuleRule,
    Multilinear,
    Multiple,
    Operand,
    Positions,
    Product,
    Relation,
    Rule,
    Scales,
    Signature,
    Slides,
    Span,
    Star,
    Sum,
    Target,
    Targets,
    Tie,
    Use,
    Where,
)

NOWHERE = Span("", 0, 0, 0, "")


def at(cls, *args, **kwargs):
    """A node without a position, to compare with."""
    return cls(*args, **kwargs, span=NOWHERE)


def only(text):
    """The only statement of a text."""
    (statement,) = parse(text).statements
    return statement


def result(dims):
    """The dims of the result of a rule whose first operand has them too."""
    return only(f"r: x[{dims}] -> [{dims}]").body.outputs[0].dims


DIMS = {
    "": (),
    "n c": (Factor("n"), Factor("c")),
    "*x": (Star("x"),),
    "4 _": (Fixed(4), Anything()),
    "(g in)": (Product((Factor("g"), Factor("in"))),),
    "(4 h)": (Product((Fixed(4), Factor("h"))),),
    "(a + b)": (Sum((Factor("a"), Factor("b"))),),
    "(a b + 2 + (c d))": (
        Sum((Product((Factor("a"), Factor("b"))), Fixed(2), Product((Factor("c"), Factor("d"))))),
    ),
    "((a + b) c)": (Product((Sum((Factor("a"), Factor("b"))), Factor("c"))),),
    "(*a)": (Star("a"),),
    "at by block where next module": tuple(
        Factor(word) for word in ["at", "by", "block", "where", "next", "module"]
    ),
}


@pytest.mark.parametrize("text", DIMS)
def test_dims(text):
    """Factors, stars, fixed parts, products and sums, nested; keywords are ordinary factors."""
    assert result(text) == DIMS[text]


def test_operands():
    """Optional operands, lists, parameters of modules and several results."""
    signature = only("r: a.b[n]?, name...[n c], self.w1.weight[c]? -> [n], [c]?").body
    assert signature == at(
        Signature,
        (
            at(Operand, "a.b", (Factor("n"),), optional=True),
            at(Operand, "name", (Factor("n"), Factor("c")), many=True),
            at(Operand, "self.w1.weight", (Factor("c"),), optional=True),
        ),
        (at(Operand, None, (Factor("n"),)), at(Operand, None, (Factor("c"),), optional=True)),
    )


def test_short_form():
    """``in <-> out`` maps each slot to itself."""
    tensor = at(Operand, None, (Star("in"),))
    assert only("relu: in <-> out").body == at(Signature, (tensor,), (tensor,), short=True)


RELATIONS = {
    "roll": ("roll", (), None),
    "lower": ("lower", (), None),
    "split(in) by output sizes": ("split", ("in",), "output sizes"),
    "split(out) by input sizes": ("split", ("out",), "input sizes"),
    "stack(a, b)": ("stack", ("a", "b"), None),
    "regroup by sizes": ("regroup", (), "sizes"),
}


@pytest.mark.parametrize("text", RELATIONS)
def test_relations(text):
    """Verbs with and without factors and ``by``."""
    assert only(f"r: {text}") == at(Rule, "r", at(Relation, *RELATIONS[text]))


CLAUSES = {
    "a -> next.in": [at(Flow, "a", "next.in")],
    "where a = x, *b = y": [at(Where, "a", "x"), at(Where, "b", "y", star=True)],
    "where a = kernel_size[0]": [at(Where, "a", "kernel_size[0]")],
    "where a = config.sizes[-1].width": [at(Where, "a", "config.sizes[-1].width")],
    "at c = dim": [at(At, "c", "dim")],
    "at a = dim0, c = dim1": [at(At, "a", "dim0"), at(At, "c", "dim1")],
    "at *b = dim": [at(At, "*b", "dim")],
    "hold a, *b": [at(Hold, ("a", "*b"))],
    'block a, c "why # not"': [at(Block, ("a", "c"), "why # not")],
    "mixes *b": [at(Mixes, ("*b",))],
    "positions c": [at(Positions, ("c",))],
    "slides *b -> *b by stride": [at(Slides, ("*b", "*b"), "stride")],
    "slides c": [at(Slides, ("c",))],
    "scales x by c ** -0.5 unless scale": [at(Scales, "x", "c", -0.5, "scale")],
    "scales x by in ** 2": [at(Scales, "x", "in", 2.0)],
    "multilinear x x + x": [at(Multilinear, (("x", "x"), ("x",)))],
    "constant": [at(Constant)],
    "tie a, c": [at(Tie, ("a", "c"))],
    "multiple a, *b of 8": [at(Multiple, ("a", "*b"), 8)],
    "multiple c of 16 bytes": [at(Multiple, ("c",), 16, bytes=True)],
    "macs a c in *b + a c": [
        at(
            Macs,
            ((Factor("a"), Factor("c"), Factor("in"), Star("b")), (Factor("a"), Factor("c"))),
        )
    ],
    "macs 2 (a + c)": [at(Macs, ((Fixed(2), Sum((Factor("a"), Factor("c")))),))],
}


@pytest.mark.parametrize("text", CLAUSES)
@pytest.mark.parametrize(
    "layout",
    [
        "r: BODY; {}",
        "r: BODY;{};",
        "r: BODY\n   {}",
        "r:\n  BODY\n\n  # c\n  {}  # d\n",
        "r: BODY ;\r\n\t{}\r\n",
    ],
)
def test_clauses(text, layout):
    """Every clause, however it is attached."""
    body = "x[a c in *b] -> [a c in *b]"
    assert only(layout.replace("BODY", body).format(text)).clauses == tuple(CLAUSES[text])


def test_clause_without_body():
    """A rule may consist of clauses only, and a relation may have some."""
    assert only("conv: hold a; mixes b") == at(Rule, "conv", None, (at(Hold, ("a",)), at(Mixes, ("b",))))
    assert only("mean: reduce; mixes r").clauses == (at(Mixes, ("r",)),)
    assert len(only("conv: where a = x, b = y\n  tie a, b").clauses) == 3


def test_other_statements():
    """Targets, module rules and ``use``."""
    assert parse('use default\nuse "my rules/a.rules"; use base.rules').statements == (
        at(Use, "default"),
        at(Use, "my rules/a.rules"),
        at(Use, "base.rules"),
    )
    assert only("conv = torch.conv1d,\n   torch.Tensor.T") == at(
        Targets, "conv", (at(Target, "torch.conv1d"), at(Target, "torch.Tensor.T"))
    )
    assert only("module a.module.Linear: in_features = weight[1], size[0] = w.b[0]") == at(
        ModuleRule,
        "a.module.Linear",
        (at(Bookkeeping, "in_features", "weight", 1), at(Bookkeeping, "size[0]", "w.b", 0)),
    )


def test_founding_line():
    """The line that the language grew from is valid as it stands."""
    assert parse("conv: out -> next.in; concat: split(out) by input sizes").statements == (
        at(Rule, "conv", None, (at(Flow, "out", "next.in"),)),
        at(Rule, "concat", at(Relation, "split", ("out",), by="input sizes")),
    )


@pytest.mark.parametrize(
    "text",
    [
        "r: x[n c],\n   y[n c]\n   -> [n c]",
        "r: x[n c], y[n\n  c] -> [n c]",
        "r:\n\n  x[n c], # first\n  y[n c] ->\n  [n c]",
        "\n\n  r: x[n c], y[n c] -> [n c]",
    ],
)
def test_line_ends_inside_a_rule(text):
    """After a comma or arrow, before an arrow and inside brackets a line end is a blank."""
    assert only(text) == only("r: x[n c], y[n c] -> [n c]")


def test_names_like_keywords():
    """Keywords are reserved nowhere but where a clause may begin."""
    assert [s.name for s in parse("hold: roll\nattention: roll\nuses: roll\nat: in <-> out").statements] == [
        "hold",
        "attention",
        "uses",
        "at",
    ]


def test_empty():
    """Nothing, and nothing but comments."""
    assert parse("").statements == parse("# a\n\n  # b\n").statements == ()


def test_comments_and_examples():
    """The comment lines directly above a rule belong to it, also over its targets."""
    first, second, third, _, fourth = parse(
        "# header\n\n# One\n#  two.\n#: example f(3)\n#: example g()\na: roll\nb: roll  # behind\nc: roll\n"
        "# Over the targets.\nd = x.y,\n    x.z\nd: roll\n"
    ).statements
    assert (first.comment, first.examples) == ("One\ntwo.", ("f(3)", "g()"))
    assert (second.comment, third.comment, third.examples) == ("", "", ())
    assert fourth.comment == "Over the targets."


def test_spans():
    """Nodes know file, line and columns; a span of several lines ends with its first."""
    rule = parse("# c\n\nconv: input[n],\n      w[n] -> [n]\n      where n = groups", "nn.rules").statements[
        0
    ]
    spans = [rule.span, *(o.span for o in rule.body.inputs), rule.clauses[0].span]
    assert [(s.line, s.column, s.end_column) for s in spans] == [
        (3, 1, 16),
        (3, 7, 15),
        (4, 7, 11),
        (5, 13, 23),
    ]
    assert str(rule.span) == "nn.rules:3"
    assert rule.clauses[0].span.text == "      where n = groups"


# What is written, and what is said about it.
ERRORS = r"""a: x[n, c] -> [n]
----
error: unexpected ','
  my.rules:1:7
    a: x[n, c] -> [n]
          ^
help: axes are separated by blanks: [n c h w]
====
b: roll
a: x[n c -> [n]
----
error: unexpected '->'
  my.rules:2:10
    a: x[n c -> [n]
             ^^
help: close the bracket with ']'
====
a: x[(g c] -> [n]
----
error: unexpected ']'
  my.rules:1:10
    a: x[(g c] -> [n]
             ^
help: close the bracket with ')'
====
a: x[n] -> n
----
error: unexpected 'n'
  my.rules:1:12
    a: x[n] -> n
               ^
help: results are written in brackets: -> [n out]
====
a: in <-> out
hold in
----
error: unexpected 'in'
  my.rules:2:6
    hold in
         ^^
help: a clause continues the rule above it: indent this line
====
a: x[n] -> [n]
   where n groups
----
error: unexpected 'groups'
  my.rules:2:12
    where n groups
            ^^^^^^
help: write 'factor = argument'
====
a: roll; block n why
----
error: unexpected 'why'
  my.rules:1:18
    a: roll; block n why
                     ^^^
help: give the reason in quotes: block factor "why"
====
a: roll; block n "why
----
error: a text is not closed
  my.rules:1:18
    a: roll; block n "why
                     ^
help: put a '"' at its end, on the same line
====
a: roll; mix n
----
error: unexpected 'n'
  my.rules:1:14
    a: roll; mix n
                 ^
help: did you mean 'mixes'?
====
module a.B: width = weight
----
error: unexpected end of line
  my.rules:1:27
    module a.B: width = weight
                              ^
help: write 'module T: attribute = parameter[axis]'
====
conv x[n]
----
error: unexpected 'x'
  my.rules:1:6
    conv x[n]
         ^
help: a statement is 'name: ...', 'name = target, ...', 'module T: ...' or 'use default'
====
a: input -> output
----
error: unexpected 'output'
  my.rules:1:13
    a: input -> output
                ^^^^^^
help: write 'factor -> next.in' for a flow, or 'operand[n in] -> [n out]' for a signature
====
a: x[n] @ [n]
----
error: unexpected character '@'
  my.rules:1:9
    a: x[n] @ [n]
            ^
help: a signature is 'operand[axes], ... -> [axes]'
====
a:   # nothing

b: roll
----
error: unexpected end of line
  my.rules:1:3
    a:   # nothing
      ^
help: expected 'at', 'block', 'constant', 'hold', 'macs', 'mixes', 'multilinear', 'multiple', 'positions', 'scales', 'slides', 'sums', 'tie', 'where', 'zero' or a name
====
a: split(in) by
----
error: unexpected end of line
  my.rules:1:16
    a: split(in) by
                   ^
help: expected a name
====
a: in <-> up
----
error: 'in <-> up' is no short form
  my.rules:1:4
    a: in <-> up
       ^^^^^^^^^
help: write 'in <-> out', or a signature 'input[...] -> [...]'
====
a: x[0] -> [n]
----
error: a fixed part has a size of at least 1
  my.rules:1:6
    a: x[0] -> [n]
         ^
====
a = torch.b; hold x
----
error: a clause must follow a rule
  my.rules:1:14
    a = torch.b; hold x
                 ^^^^^^
help: write 'name: ...; clause'
====
a: splt(in)
----
error: unknown verb 'splt'
  my.rules:1:4
    a: splt(in)
       ^^^^
help: did you mean 'split'?
====
a: x[n heads] -> [n]
 hold n, head
----
error: 'head' is not a factor of the signature of a
  my.rules:2:10
    hold n, head
            ^^^^
help: did you mean 'heads'?
====
a: x[n] -> [n]; macs n (2 m)
----
error: 'm' is not a factor of the signature of a
  my.rules:1:27
    a: x[n] -> [n]; macs n (2 m)
                              ^
====
a: x[*c] -> [*c]; mixes c
----
error: 'c' is not a factor of the signature of a
  my.rules:1:25
    a: x[*c] -> [*c]; mixes c
                            ^
help: did you mean '*c'?
====
a: x[n (g *c)] -> [n *c]
----
error: '*c' cannot be part of an axis
  my.rules:1:11
    a: x[n (g *c)] -> [n *c]
              ^^
help: brackets make one axis of several parts: give each a name of its own
====
a: x[(2 + _)] -> [n]
----
error: '_' cannot be part of an axis
  my.rules:1:11
    a: x[(2 + _)] -> [n]
              ^
help: brackets make one axis of several parts: give each a name of its own
"""  # noqa: E501


@pytest.mark.parametrize("case", ERRORS.strip().split("\n====\n"))
def test_errors(case):
    """File, line, source, caret and help, to the letter."""
    text, message = case.split("\n----\n")
    with pytest.raises((RuleSyntaxError, RuleError)) as caught:
        parse(text, "my.rules")
    assert str(caught.value) == message


def test_an_error_knows_its_place():
    """Message, span and help of an error can be read one by one."""
    with pytest.raises(RuleError) as caught:
        parse("a: roll\nb: splt(in)", "my.rules")
    error = caught.value
    assert (error.message, error.help) == ("unknown verb 'splt'", "did you mean 'split'?")
    assert (error.span.file, error.span.line, error.span.column, error.span.end_column) == (
        "my.rules",
        2,
        4,
        8,
    )
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_an_error_without_a_place():
    """Without place and help an error is its message, as every other one; with help it has both."""
    assert str(RuleError("it is so")) == "it is so"
    assert str(RuleError("it is so", help="make it otherwise")) == "error: it is so\nhelp: make it otherwise"


def test_errors_can_be_collected():
    """Given where to put them, every mistake of a text is told, not only the first."""
    errors = []
    file = parse("a: splt(in)\nb: x[n] -> [n]; hold m, k; mixes l\nc: roll", fail=errors.append)
    assert [error.message.split("'")[1] for error in errors] == ["splt", "m", "k", "l"]
    assert [rule.name for rule in file.statements] == ["a", "b", "c"]


def test_no_error_of_lark_escapes():
    """Whatever piece of a good file is cut off or doubled, only our errors come, in our words."""
    good = (
        "use default\nconv = torch.a\nconv: x[n (g c)], w...[(a + 4)]? -> [n]\n"
        '  where n = b[0]; block g "x"\n  n -> next.in'
    )
    for i in range(len(good)):
        for text in (
            good[:i],
            good[:i] + good[i + 1 :],
            good[:i] + good[i] + good[i:],
            good[:i] + "$" + good[i:],
        ):
            try:
                parse(text)
            except (RuleSyntaxError, RuleError) as error:
                assert "<rules>:" in str(error) and "__" not in str(error) and "Token" not in str(error)


def test_report_without_help():
    """Tabs count as one column, and the source line is shown without its indent."""
    span = Span("f.rules", 2, 4, 6, "\ta\tbc")
    assert report("bad", span) == "error: bad\n  f.rules:2:4\n    a bc\n      ^^"


def test_grammar_does_not_import_torch():
    """The language is plain Python."""
    files = Path(sys.modules["prunus.grammar"].__file__).parent.glob("*.py")
    assert not any("import torch" in file.read_text() for file in files)
    code = "import prunus.grammar, sys; prunus.grammar.parse('a: roll'); print(len(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd="/", check=True).returncode == 0
