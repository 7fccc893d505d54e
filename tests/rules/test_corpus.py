"""Rules as a corpus: tests/rules/corpus/*.txt holds rule texts with what comes of them.

A case is a title between two lines of ``=``, a rule file, and what is expected, after a line ``---``. Where a
call stands between the two, the outcome is what the rules say of that call: the layouts of all its axes, in
the words of the rule, and what the law says of each factor. Without a call it is what ``prunus rules check``
prints. ``make snapshots`` rewrites what is expected.

In a layout a factor stands for its slots, a small letter for slots that the rule gives no name, and a number
for slots that stay.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from string import ascii_lowercase

import pytest
from attrs import evolve, frozen
from prunus import cli, engine
from prunus.engine.axes.layout import Atom, Product, atoms, factors, resolve, terms
from prunus.engine.proving.law import judge
from prunus.engine.proving.probe import Probe
from prunus.engine.proving.verdict import Untried
from prunus.errors import PlanError
from prunus.rules import draft
from prunus.rules.examples import Example, evaluate
from prunus.rules.lint import lint

FOLDER = Path(__file__).parent / "corpus"
TITLE = re.compile(r"^={4,}\n(.+)\n={4,}\n", re.MULTILINE)


@frozen
class Case:
    title: str
    rules: str
    call: str | None
    expected: str

    def __str__(self) -> str:
        parts = [self.rules, *([self.call] if self.call else []), self.expected]
        line = "=" * 20
        return f"{line}\n{self.title}\n{line}\n\n" + "\n\n---\n".join(parts) + "\n"


def cases_of(path: Path) -> list[Case]:
    """The cases of a file, in order."""
    _, *pieces = TITLE.split(path.read_text(encoding="utf-8"))
    cases = []
    for title, body in zip(pieces[::2], pieces[1::2]):
        rules, *call, expected = (part.strip("\n") for part in re.split(r"^---$", body, flags=re.MULTILINE))
        cases.append(Case(title, rules, call[0] if call else None, expected))
    return cases


CASES = [(path, case) for path in sorted(FOLDER.glob("*.txt")) for case in cases_of(path)]


@pytest.mark.parametrize(("path", "case"), CASES, ids=[f"{path.stem}: {case.title}" for path, case in CASES])
def test_case(path, case, tmp_path, monkeypatch, capsys, update):
    """The outcome of each case is the one that stands in its file."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shared.rules").write_text((FOLDER / "shared.rules").read_text(encoding="utf-8"))
    (tmp_path / "my.rules").write_text(case.rules + "\n", encoding="utf-8")
    outcome = "\n".join(coupling(case)) if case.call else checked(capsys)
    if update:
        rewrite(path, evolve(case, expected=outcome))
    else:
        assert outcome == case.expected


def rewrite(path: Path, case: Case) -> None:
    """Put one case in the place of the one of that title."""
    cases = [case if one.title == case.title else one for one in cases_of(path)]
    path.write_text("\n".join(map(str, cases)), encoding="utf-8")


def test_titles_differ():
    """A case is known by its title, of which there is one in each file."""
    counts = Counter((path.name, case.title) for path, case in CASES)
    assert set(counts.values()) == {1}


def test_planted_mistakes_are_all_caught():
    """No rule among the planted mistakes is found to be right."""
    planted = [case for path, case in CASES if path.stem == "mistakes"]
    assert len(planted) > 100
    assert [case.title for case in planted if "error:" not in case.expected] == []


def test_right_rules_are_not_refused():
    """No rule among the right ones, however unusual, is found to be wrong or said to be doubtful."""
    right = [case for path, case in CASES if path.stem == "right"]
    assert len(right) > 40
    assert [case.title for case in right if re.search("error:|warning:", case.expected)] == []


# --- what `prunus rules check` prints -------------------------------------------------------------------


def checked(capsys) -> str:
    """What the user sees, without the numbers of calls and in place of other people's words a remark."""
    status = cli.main(["rules", "check", "my.rules"])
    out, err = capsys.readouterr()
    lines = [foreign(line) for line in out.splitlines()[:-1]]
    lines = [re.sub(r" +\d+ calls +", "  ", re.sub(r"^(my.rules:\d+) +", r"\1  ", line)) for line in lines]
    assert status == ("error:" in out)
    return "\n".join(line.rstrip() for line in [*lines, *err.splitlines()])


def foreign(line: str) -> str:
    """A line without what an operation itself has said, which another version may say otherwise."""
    return re.sub(r"\b(?!Rule)\w+(Error|Exception): .*", "<what the operation says>", line)


# --- what rules say of a call ---------------------------------------------------------------------------


def coupling(case: Case) -> Iterator[str]:
    """The layouts of a call and the verdicts of its factors, a line for each kind."""
    findings = lint("my.rules", case.rules)
    yield from map(str, findings)
    if any(finding.severity == "error" for finding in findings):
        return
    _, rules = draft(case.rules, "my.rules")
    example = evaluate(case.call)
    graph = engine.analyze(Probe(example), (), rules=rules, free_outputs=range(8))
    names = Names(graph)
    inputs = [f"{path_of(name)}{names.of(value)}" for name, value in graph.trace.tensors.items()]
    yield f"{' '.join(inputs)} -> {' '.join(map(names.of, graph.trace.outputs))}"
    yield from graph_lines(graph, names)
    if not graph.unknown:
        yield from verdict_lines(example, rules)


class Names:
    """Names for atoms: those of the factors, else letters if slots of them may go, else their sizes."""

    def __init__(self, graph):
        self.graph = graph
        self.letters = iter(ascii_lowercase)
        self.known: dict[Atom, str] = {}
        for reading in graph.coupled.readings.values():
            self.add([(name, layout) for name, layout, _ in reading.factors])

    def add(self, held):
        counts = Counter(name for name, _ in held)
        numbers = defaultdict(int)
        for name, layout in held:
            shown = f"{name}{numbers[name]}" if counts[name] > 1 else name
            numbers[name] += 1
            atom = resolve(layout)
            if type(atom) is Atom and atom.size > 1:
                self.known.setdefault(atom, shown)

    def of(self, value) -> str:
        return f"[{' '.join(self.written(layout) for layout in self.graph.coupled.of(value))}]"

    def written(self, layout) -> str:
        layout = resolve(layout)
        if type(layout) is not Atom:
            parts, joint = (factors(layout), " ") if type(layout) is Product else (terms(layout), " + ")
            return f"({joint.join(map(self.written, parts))})"
        if layout not in self.known:
            self.known[layout] = str(layout.size) if layout.reason else next(self.letters)
        return self.known[layout]


def path_of(name: str) -> str:
    return f"self.{name.removeprefix('module.')}" if name.startswith("module.") else name


def graph_lines(graph, names: Names) -> Iterator[str]:
    """What the rules say besides: what is made, tied and counted, what follows, what no rule speaks for."""
    state = graph.coupled
    made = dict.fromkeys(names.written(atom) for one in state.produced for atom in atoms(one.layout))
    if made:
        yield f"made here: {', '.join(made)}"
    for reason in state.unknown:
        yield f"unknown: {reason.text}"
    for tie in state.ties:
        yield f"tied: {names.written(tie.left.layout)} and {names.written(tie.right.layout)}"
    for cost in state.macs:
        terms = (" ".join(map(names.written, term)) for term in cost.terms)
        yield f"multiply-accumulates: {' + '.join(terms)}"
    for group in graph.groups:
        yield from followers(graph, group, names.written(group.atom))


def followers(graph, group, name: str) -> Iterator[str]:
    """The numbers that change if half of a group's slots go."""
    try:
        plan = graph.plan({group.name: range(group.size - group.size // 2)})
    except PlanError as error:
        yield f"half of {name}: {error}"
        return
    changed = [
        f"{attribute_path(graph.model, path)} {plan.before[path]} -> {plan.attributes[path]}"
        for path in plan.attributes
    ]
    if changed:
        yield f"half of {name}: {', '.join(changed)}"


def attribute_path(probe: Probe, path: str) -> str:
    number = re.fullmatch(r"numbers\[(\d+)\]", path)
    return probe.paths[int(number[1])] if number else path_of(path)


def verdict_lines(example: Example, rules) -> Iterator[str]:
    """What the law says of the factors of the rule that speaks for the call, if one does."""
    if rules.rule_for(example.rule_target) is None:
        return
    try:
        verdicts = judge(example, rules)
    except Untried as error:
        yield f"not tried: {foreign(str(error))}"
        return
    kinds = {(verdict.kind, foreign(verdict.detail)): None for verdict in verdicts}
    for kind, detail in sorted(kinds):
        factors = [one.factor for one in verdicts if (one.kind, foreign(one.detail)) == (kind, detail)]
        yield f"{kind}: {', '.join(factors)}" + (f" ({detail})" if detail else "")
