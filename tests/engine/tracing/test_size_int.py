"""Traced integers: what they remember, and where they are plain numbers."""

import copy
import pickle

import pytest
import torch
from prunus.engine.tracing.expressions import Attribute, Const, Dim, Op, evaluate, leaves
from prunus.engine.tracing.size_int import Ledger, SizeInt, expr_of
from prunus.engine.tracing.values import Value


@pytest.fixture
def ledger():
    return Ledger()


@pytest.fixture
def heads(ledger):
    return SizeInt(8, Attribute("blocks.0", "heads"), ledger)


@pytest.fixture
def width(ledger):
    return SizeInt(96, Dim(Value(3, (1, 96), torch.float32, "call"), 1), ledger)


ARITHMETIC = [
    ("w + 1", "(value3[1] + 1)", 97),
    ("1 + w", "(1 + value3[1])", 97),
    ("w - h", "(value3[1] - blocks.0.heads)", 88),
    ("100 - w", "(100 - value3[1])", 4),
    ("w // h", "(value3[1] // blocks.0.heads)", 12),
    ("1000 // w", "(1000 // value3[1])", 10),
    ("w * h", "(value3[1] * blocks.0.heads)", 768),
    ("3 * w", "(3 * value3[1])", 288),
    ("w % 7", "(value3[1] % 7)", 5),
    ("200 % w", "(200 % value3[1])", 8),
    ("-w", "(0 - value3[1])", -96),
    ("w * True", "(value3[1] * 1)", 96),
    ("w // h * h", "((value3[1] // blocks.0.heads) * blocks.0.heads)", 96),
]


@pytest.mark.parametrize("code, expression, number", ARITHMETIC)
def test_arithmetic_keeps_the_expression(width, heads, code, expression, number):
    """Sums, differences, products and whole divisions remember how they came about."""
    result = eval(code, {"w": width, "h": heads})
    assert type(result) is SizeInt
    assert str(result.expr) == expression
    assert int(result) == number
    assert evaluate(result.expr, lambda leaf: 8 if isinstance(leaf, Attribute) else 96) == number


@pytest.mark.parametrize(
    "code", ["w / 2", "w ** 2", "w + 0.5", "int(w)", "float(w)", "w << 1", "w & 3", "abs(w)"]
)
def test_other_operations_give_plain_numbers(width, code):
    """Whatever has no expression is a constant from there on."""
    assert type(eval(code, {"w": width})) in (int, float)


def test_operations_know_where_they_were_made(width):
    """An operation carries the user's source line."""
    doubled = width * 2
    assert doubled.expr.source.file == __file__
    assert doubled.expr.source.text == "doubled = width * 2"


def test_closed_sizes_are_plain(width, heads, ledger):
    """After the trace nothing is computed or remembered any more."""
    ledger.open = False
    assert type(width * heads) is int
    assert width > heads
    assert bool(width)
    assert ledger.conditions == []


def test_sizes_of_two_traces_do_not_mix(width):
    """An expression never spans two traces; in a comparison the stranger is a number."""
    other = SizeInt(8, Attribute("", "heads"), Ledger())
    assert type(width * other) is int
    assert width != other
    assert str(width.ledger.conditions[0].right) == "8"


COMPARISONS = [
    ("w == 96", "==", True),
    ("w != h", "!=", True),
    ("w < 5", "<", False),
    ("w <= h", "<=", False),
]
COMPARISONS += [("w > h", ">", True), ("w >= 1", ">=", True), ("5 < w", ">", True), ("w", "!=", True)]


@pytest.mark.parametrize("code, symbol, outcome", COMPARISONS)
def test_comparisons_are_remembered(width, heads, ledger, code, symbol, outcome):
    """Every comparison leaves a condition with outcome and source; a size's truth is `!= 0`."""
    assert bool(eval(code, {"w": width, "h": heads})) is outcome
    (condition,) = ledger.conditions
    assert (condition.symbol, condition.outcome) == (symbol, outcome)
    assert condition.left is width.expr


def test_the_same_comparison_is_remembered_once(width, ledger):
    """Asking in a loop does not fill the list."""
    for _ in range(5):
        assert width == 96
        assert width != 5
    assert len(ledger.conditions) == 2


def test_constants_are_not_compared(ledger):
    """A comparison of two constants says nothing."""
    assert SizeInt(3, Const(3), ledger) == 3
    assert ledger.conditions == []


def test_equality_with_other_types_is_not_remembered(width, ledger):
    """Comparing with `None` or a string is not a comparison of sizes."""
    assert width != None  # noqa: E711
    assert width != "96"
    assert ledger.conditions == []


def test_shapes_compare_axis_by_axis(ledger):
    """A comparison of shapes is one of each pair of sizes."""
    value = Value(0, (2, 3), torch.float32, "input", "x")
    shape = torch.Size([SizeInt(2, Dim(value, 0), ledger), SizeInt(3, Dim(value, 1), ledger)])
    assert shape == (2, 3)
    assert [str(condition.left) for condition in ledger.conditions] == ["x[0]", "x[1]"]


def test_copies_and_text_are_those_of_an_int(width):
    """Nothing outside can tell a traced integer from a number."""
    for copied in (copy.copy(width), copy.deepcopy(width), pickle.loads(pickle.dumps(width))):
        assert type(copied) is int and copied == 96
    assert (repr(width), str(width), f"{width:>4}", format(width, "x")) == ("96", "96", "  96", "60")
    assert {96: "found"}[width] == "found"
    assert list(range(width))[-1] == 95
    assert torch.zeros(width).shape == (96,)


def test_leaves_and_evaluation_of_a_deep_expression(width, heads):
    """Expressions of any depth are walked without recursion; each leaf is named once."""
    total = heads
    for _ in range(5000):
        total = total + width
    assert leaves(total.expr) == [heads.expr, width.expr]
    assert evaluate(total.expr, {heads.expr: 1, width.expr: 2}.__getitem__) == 10001


def test_expr_of_plain_numbers():
    """A plain number is a constant."""
    assert isinstance(expr_of(5), Const)
    assert evaluate(expr_of(True), lambda leaf: 0) == 1
    assert evaluate(Op("%", Const(7), Const(4)), lambda leaf: 0) == 3
