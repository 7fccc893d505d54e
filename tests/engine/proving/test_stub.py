"""Rules to start from: what trial finds, what it leaves open, and that no operation breaks it."""

import re
import time

import pytest
import torch
from prunus import engine
from prunus.engine.proving.check import check, complaint
from prunus.engine.proving.draft_rule import stub_for
from prunus.engine.proving.law import judge
from prunus.engine.proving.probe import Probe, is_recorded
from prunus.engine.proving.verdict import Untried
from prunus.grammar.ast import Signature
from prunus.rules import draft, load
from prunus.rules.draw import draw
from prunus.rules.examples import evaluate, examples_of
from prunus.rules.lint import lint
from torch import nn
from torch.library import custom_op

# Each call, and the signature that trial finds: factors that belong together, `_` where nothing is settled.
FOUND = {
    "rectified(randn(3, 4))": "x[*n n2] -> [*n n2]",
    "gate(randn(3, 8))": "x[n (2 c)] -> [n c]",
    "gate(randn(3, 8, 5))": "x[n (2 c) n2] -> [n c n2]",
    "interleaved_gate(randn(3, 8))": "x[n (c 2)] -> [n c]",
    "pairs(randn(3, 8))": "x[n (c 2)] -> [n (c 2)]",
    "repeated(randn(3, 4))": "x[n n2] -> [n (2 n2)]",
    "doubled(randn(3, 4))": "x[n n2] -> [n (n2 2)]",
    "turned(randn(2, 3))": "x[n n2] -> [n2 n]",
    "halves(randn(3, 8))": "x[n (2 c)] -> [n c], [n c]",
    "even_and_odd(randn(3, 8))": "x[n (c 2)] -> [n c], [n c]",
    "fused_gate(randn(3, 4), randn(6, 4), randn(6, 4))": "x[*n in], up[out in], gates[out in] -> [*n out]",
    "packed_gate(randn(3, 4), randn(10, 4))": "x[*n in], weight[(2 out) in] -> [*n out]",
    "affine(randn(3, 4), randn(5, 4), randn(5))": "x[*n in], weight[out in], bias[out] -> [*n out]",
    "affine(randn(3, 4), randn(5, 4))": "x[*n in], weight[out in] -> [*n out]",
    "transposed(randn(3, 4), randn(4, 5))": "x[*n in], weight[in out] -> [*n out]",
    "low_rank(randn(2, 3), randn(5, 3), randn(4, 5))": "x[*n in], down[h in], up[out h] -> [*n out]",
    "grouped_linear(randn(2, 12), randn(15, 4), 3)": "x[*n (3 in)], weight[(3 out) in] -> [*n (3 out)]",
    "layer_scale(randn(2, 5, 3), randn(3))": "x[*n c], scale[c] -> [*n c]",
    "scale_shift(randn(2, 3), randn(3), randn(3))": "x[*n c], scale[c], shift[c] -> [*n c]",
    "by_running(randn(2, 3, 4), randn(3), rand(3), randn(3), randn(3))": (
        "x[n c n2], mean[c], var[c], scale[c], shift[c] -> [n c n2]"
    ),
    "token_mixing(randn(2, 3, 4), randn(5, 3))": "x[n in n2], weight[out in] -> [n out n2]",
    "linear_scores(randn(2, 5, 3), randn(2, 4, 3))": "q[c n in], k[c out in] -> [c n out]",
    "separable(randn(2, 3, 7, 7), randn(3, 2, 2), randn(5, 3))": (
        "x[n in _ _], depth[in _ _], point[out in] -> [n out _ _]"
    ),
    "bag(randint(7, (2, 3)), randn(7, 4))": "indices[*n in], table[_ out] -> [*n out]",
    "total_of([randn(2, 3), randn(2, 3)])": "parts...[c c2] -> [c c2]",
    "added_transposed(randn(3, 3), randn(3, 3))": "x[c c2], y[c2 c] -> [c c2]",
    "weights_of_rows(randn(2, 3))": "x[*n n2] -> [*n n2];  mixes n2",
    "root_mean_square(randn(2, 3), randn(3))": "x[*n c], scale[c] -> [*n c];  mixes c",
    "by_count(randn(2, 3))": "x[n n2] -> [n n2];  mixes n2",
    "plus_total(randn(2, 3))": "x[*n n2] -> [*n n2];  sums n2",
    "running_total(randn(2, 3))": "x[*n n2] -> [*n n2];  sums *n, n2",
    "turning(randn(3, 3))": "x[*n _] -> [*n _]",
    "masked_scores(randn(3, 3, 4))": "x[*n _ _] -> [*n _ _]",
    "SquareGate.apply(randn(2, 8))": "x[*n (2 c)] -> [*n c]",
    "Gated(4, 6)(randn(3, 4))": (
        "x[*n in], self.up.weight[h in], self.gate.weight[h in], self.down.weight[out h], "
        "self.down.bias[out] -> [*n out]"
    ),
    # Slots that are not free: trial says nothing of them, and so they stay.
    "mirrored(randn(2, 5))": "x[n _] -> [n _]",
    "mirrored(randn(2, 3))": "x[n _] -> [n _]",
    "rolled(randn(2, 5))": "x[n _] -> [n _]",
    "swapped_ends(randn(2, 5))": "x[n _] -> [n _]",
    "swapped_middle(randn(2, 6))": "x[*n _] -> [*n _]",
    "by_first(randn(2, 3))": "x[n _] -> [n _]",
    "by_position(randn(2, 3))": "x[n _] -> [n _]",
    "ordered(randn(2, 3))": "x[*n _] -> [*n _]",
    "with_neighbour(randn(2, 5))": "x[*n _] -> [*n _]",
    "joined(randn(2, 3), randn(2, 4))": "a[c _], b[c _] -> [c _]",
    "noisy(randn(2, 3))": "x[_ _] -> [_ _]",
    "counting(randn(2, 3))": "x[_ _] -> [_ _]",
    "Scaled(4)(randn(3, 4))": "x[*n _], self.scale[_], self.mean[_] -> [*n _]",
}


def stub(call):
    return stub_for(evaluate(f"corpus_layers.{call}"))


def passes(text, tmp_path, monkeypatch):
    """The stub as a file: no lint is an error, and what `check` finds of its rule."""
    file = tmp_path / "stub.rules"
    file.write_text(text + "\n")
    assert [str(one) for one in lint(file) if one.severity == "error"] == []
    rules = load(file)
    (rule,) = rules.rules.values()
    return check(rule, rules)


@pytest.mark.parametrize("call", FOUND)
def test_what_trial_finds(call, tmp_path, monkeypatch):
    """The stub has the coupling of the operation, and passes every check as it stands."""
    text = stub(call)
    signature, *clauses = FOUND[call].split(";  ")
    assert re.search(r"^\w+: (.*)$", text, re.MULTILINE)[1] == signature
    declared = re.findall(r"^ +((?:mixes|sums) .*)$", text, re.MULTILINE)
    assert declared == clauses
    assert [str(failure) for failure in passes(text, tmp_path, monkeypatch).failures] == []


def test_two_couplings_that_fit_are_not_guessed_between():
    """Of an even number of channels either halves or neighbours may go together: nothing is said of them."""
    assert "particular: x[*n _] -> [*n _]" in stub_for(evaluate("test_stub.particular(randn(3, 8))"))


def test_equal_sizes_are_told_apart():
    """A square weight is read one way only, as it is tried and not looked at."""
    assert "x[*n in], weight[out in], bias[out]" in stub("affine(randn(4, 4), randn(4, 4), randn(4))")
    assert "x[*n in], weight[in out]" in stub("transposed(randn(4, 4), randn(4, 4))")


def test_the_stub_says_how_it_was_found():
    """It names the call that was tried, and the numbers of which it knows nothing."""
    text = stub("grouped_linear(randn(2, 12), randn(15, 4), 3)")
    assert text.startswith("# Found by trial")
    assert "#: example corpus_layers.grouped_linear(randn(2, 12), randn(15, 4), 3)" in text
    assert "groups = 3 only" in text


# --- the shipped rules, as if nobody had written them ---------------------------------------------------


def functions():
    """The shipped signature rules with their functions of torch.

    Recurrent cells are left out: that a state is fed back is not to be seen in one call.
    """
    rules = load()
    for rule in rules.rules.values():
        targets = {
            name: target
            for name, target in rules.targets_of(rule).items()
            if name.startswith("torch.") and not name.startswith(("torch.Tensor.", "torch.ops."))
        }
        if isinstance(rule.body, Signature) and targets and rule.span.file != "recurrent.rules":
            yield rule, targets, rules


def first_call(rule, targets):
    """The first example of a rule, or the first call that is drawn; nothing if nothing can be made of it."""
    examples = examples_of(rule, targets)
    if examples:
        return examples[0]
    name, target = next(iter(targets.items()))
    return draw(rule, name, target, complaint)[0]


def free(example, rules):
    """For each free atom of a call the axes of the tensors that have it, under these rules."""
    graph = engine.analyze(Probe(example), (), rules=rules, free_outputs=range(8))
    return {
        frozenset((member.tensor, member.axis) for member in group.members)
        for group in graph.groups
        if group.atom.reason is None
    }


@pytest.mark.parametrize(
    ("rule", "targets", "rules"), [pytest.param(*one, id=one[0].name) for one in functions()]
)
def test_a_stub_contradicts_no_shipped_rule(rule, targets, rules):
    """What trial finds of a function of torch stands the law, and splits nothing that its rule couples."""
    example = first_call(rule, targets)
    if complaint(example):
        pytest.skip("this installation of torch does not take the call")
    if not is_recorded(example):
        pytest.skip("a function in Python, which is looked into")
    text = stub_for(example)
    _, written = draft(text, "stub.rules")
    try:
        verdicts = judge(example, written, count=False)
    except Untried as error:
        pytest.fail(f"{error}\n{text}")
    assert [verdict for verdict in verdicts if verdict.kind == "wrong"] == [], text
    known = free(example, rules)
    settled = frozenset().union(*known)  # rules hold some axes of which trial finds how they could shrink
    for places in (one for one in free(example, written) if one & settled):
        inside = [other for other in known if other <= places]
        assert places == frozenset().union(*inside), f"{sorted(places)} splits what belongs together\n{text}"


# --- operations that misbehave --------------------------------------------------------------------------


@custom_op("stubs::particular", mutates_args=())
def particular(x: torch.Tensor) -> torch.Tensor:
    """Takes an even number of channels only."""
    if x.shape[-1] % 2:
        raise RuntimeError("an even number of channels, please")
    return x * 2


@custom_op("stubs::eightfold", mutates_args=())
def eightfold(x: torch.Tensor) -> torch.Tensor:
    """Takes tensors of one size only."""
    if x.shape[-1] != 8:
        raise RuntimeError("eight channels, please")
    return x * 2


@custom_op("stubs::slow", mutates_args=())
def slow(x: torch.Tensor) -> torch.Tensor:
    """Takes its time."""
    time.sleep(0.002)
    return x * 2


@custom_op("stubs::number", mutates_args=())
def number(x: torch.Tensor) -> float:
    """Returns no tensor."""
    return float(x.mean())


@custom_op("stubs::doubling", mutates_args=("x",))
def doubling(x: torch.Tensor) -> None:
    """Changes its operand and returns nothing."""
    x.mul_(2)


@custom_op("stubs::filling", mutates_args=("out",))
def filling(x: torch.Tensor, out: torch.Tensor) -> None:
    """Writes its result into an operand."""
    out.copy_(x * 2)


@custom_op("stubs::whole", mutates_args=())
def whole(x: torch.Tensor) -> torch.Tensor:
    """Returns other numbers than it takes."""
    return (x > 0).to(torch.int64)


@custom_op("stubs::failing", mutates_args=())
def failing(x: torch.Tensor) -> torch.Tensor:
    """Works but once."""
    if failing_calls:
        raise RuntimeError("no more")
    failing_calls.append(1)
    return x * 2


failing_calls = []


@custom_op("stubs::empty", mutates_args=())
def empty(x: torch.Tensor) -> torch.Tensor:
    """Returns a tensor without elements."""
    return x.new_empty(0, x.shape[-1])


class Net(nn.Module):
    """A layer, an operation, another layer."""

    def __init__(self, operation):
        super().__init__()
        self.enter, self.leave, self.operation = nn.Linear(4, 8), nn.Linear(8, 3), operation

    def forward(self, x):
        x = self.enter(x)
        result = self.operation(x)
        return self.leave(x if result is None or isinstance(result, float) else result.float())


@pytest.mark.parametrize("operation", [particular, eightfold, slow, doubling, whole, failing, empty])
def test_analysis_never_fails_because_of_a_stub(operation):
    """Whatever an operation does when it is tried, it is reported with a stub that can be loaded."""
    failing_calls.clear()
    model, x = Net(operation), torch.randn(2, 4)
    graph = engine.analyze(model, x)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    names = [unknown.name for unknown in graph.unknown]
    assert names == [f"torch.ops.stubs.{operation._name}"]
    _, rules = draft(graph.unknown[0].stub, "stub.rules")
    assert rules.rules
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_a_number_is_no_unknown_operation():
    """An operation that returns no tensor couples nothing; a stub that is asked for all the same is blank."""
    assert engine.analyze(Net(number), torch.randn(2, 4)).unknown == []
    assert "-> [_]" in stub_for(evaluate("test_stub.number(randn(2, 4))"))


def test_operands_that_are_changed_are_left_alone():
    """A trial works on copies: the tensors of the example are as they were."""
    example = evaluate("test_stub.doubling(randn(3, 4))")
    before = example.args[0].clone()
    assert "doubling: x[*n n2] -> [*n n2]" in stub_for(example)
    assert torch.equal(example.args[0], before)


def test_large_operands_are_not_tried():
    """Trying takes time with the size; a call of millions of elements gets a stub without factors."""
    text = stub("rectified(randn(2048, 2048))")
    assert "x[_ _] -> [_ _]" in text
