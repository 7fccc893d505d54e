"""Checks rules: each is tried on every operation that it speaks for, and must be what it says it is."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from attrs import evolve, frozen

from ...errors import RuleError
from ...grammar import ast, narrow
from ...grammar.validate import factor_names, mentioned, names_in
from ...rules import RuleSet
from ...rules.draw import draw
from ...rules.examples import Example, examples_of, variations
from ...rules.lint import Finding
from .law import judge
from .probe import Probe, run
from .verdict import EXACT, HELD, MIXES, SUMS, WRONG, Untried, Verdict, severity


@frozen
class Checked:
    """A rule that was tried: how many calls of which targets, the verdict of each factor, what is wrong.

    ``notes`` say what could not be tried, or what an operation is particular about.
    """

    rule: ast.Rule
    targets: tuple[str, ...]
    calls: int
    verdicts: dict[str, Verdict]
    failures: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> Counter[str]:
        """How many factors have each verdict."""
        return Counter(verdict.kind for verdict in self.verdicts.values())

    def to_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "rule": self.rule.name,
            "at": str(self.rule.span),
            "targets": list(self.targets),
            "calls": self.calls,
            "verdicts": {name: verdict.kind for name, verdict in self.verdicts.items()},
            "failures": [finding.to_dict() for finding in self.failures],
            "notes": list(self.notes),
        }


def check(rule: ast.Rule, rules: RuleSet) -> Checked:
    """Try `rule`, one of `rules`, on its example calls, or on drawn ones where a target has none.

    Nothing is raised: whatever is wrong is among the failures. The same rule always gives the same result.
    """
    with torch.random.fork_rng(devices=()), _memory_filled():
        torch.manual_seed(0)
        return _Check(rule, rules).run()


@contextmanager
def _memory_filled() -> Iterator[None]:
    """Let torch fill what `empty` returns, so that it is the same in every run."""
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])


class _Check:
    """One rule on all its targets; ``seen`` are the verdicts by factor and target."""

    def __init__(self, rule: ast.Rule, rules: RuleSet):
        self.rule = rule
        self.rules = rules
        self.targets = rules.targets_of(rule)
        self.seen: dict[str, dict[str, list[Verdict]]] = defaultdict(lambda: defaultdict(list))
        self.failures: dict[Finding, None] = {}
        self.notes: dict[str, None] = {}
        self.lacking: set[str] = set()  # targets that no call on this machine can show

    def run(self) -> Checked:
        """Try every call, then compare what was seen with what the rule says."""
        calls = 0
        for name, examples in self._calls():
            for example in examples:
                self._try(name, example)
            varied = [one for first in examples[:1] for one in variations(first) if complaint(one) is None]
            for example in varied:
                self._try(name, example, must_fit=False)
            calls += len(examples) + len(varied)
        verdicts = {}
        for factor, by_target in self.seen.items():
            verdicts[factor] = max(chain(*by_target.values()), key=severity)
            for target, seen in by_target.items():
                self._compare(factor, target, {verdict.kind for verdict in seen} - {HELD})
        was_tried = self.lacking < set(self.targets)
        if was_tried and not self.failures and isinstance(self.rule.body, ast.Signature):
            self._expect_all(self.rule.body, verdicts)
        return Checked(
            self.rule, tuple(self.targets), calls, verdicts, tuple(self.failures), tuple(self.notes)
        )

    def _fail(self, message: str, factor: str = "", where: str = "", help: str | None = None) -> None:
        span = self.rule.span
        message = f"{message} ({where})" if where else message
        self.failures[Finding("error", message, narrow(span, factor) if factor else span, help)] = None

    def _calls(self) -> Iterator[tuple[str, Sequence[Example]]]:
        """Each target by name with the calls to try: examples, or else drawn ones."""
        try:
            examples = examples_of(self.rule, self.targets)
        except RuleError as error:
            self._fail(error.message, help=error.help)
            return
        for name, target in self.targets.items():
            own = [example for example in examples if example.rule_target == target]
            # A window that is drawn has no padding, and so none that gives as many slots.
            windows = any(isinstance(one, ast.Slides) and one.step for one in self.rule.clauses)
            yield name, [*own, *self._drawn(name, target)] if windows or not own else own
        for example in examples:
            if example.rule_target not in self.targets.values():
                help = f"the targets of {self.rule.name} are {', '.join(self.targets)}"
                self._fail("an example calls no target of the rule", "", example.text, help)

    def _drawn(self, name: str, target: Callable[..., Any]) -> Sequence[Example]:
        help = f"write a call that it takes above the rule: '#: example {name}(...)'"
        if not isinstance(self.rule.body, ast.Signature):
            self._fail("a verb is tried on examples, and there is none", "", name, help)
            return ()
        try:
            return draw(self.rule, name, target, complaint)
        except ValueError as error:
            self._fail(f"{name} does not take the tensors that the rule describes: {error}", "", "", help)
            return ()

    def _try(self, name: str, example: Example, must_fit: bool = True) -> None:
        try:
            verdicts = judge(example, self.rules, count=must_fit)
            if any(isinstance(clause, ast.Positions) for clause in self.rule.clauses):
                verdicts += judge(evolve(example, first=True), self.rules, count=must_fit)
        except Untried as error:
            if _lacks_accelerator(str(error)):
                self.notes[f"{name} needs an accelerator"] = None
                self.lacking.add(name)
            elif must_fit:
                said = complaint(example)
                self._fail(f"the example fails: {said}" if said else str(error), "", example.text)
            else:
                self.notes[f"{error} ({example.text})"] = None
            return
        for verdict in verdicts:
            seen = self.seen[verdict.factor][name]
            is_new = all(one.kind != WRONG for one in seen)
            seen.append(verdict)
            if verdict.kind == WRONG and is_new:
                self._fail(f"'{verdict.factor}' is wrong: {verdict.detail}", verdict.factor, example.text)
            elif verdict.kind not in (HELD, WRONG) and verdict.detail:
                self.notes[f"'{verdict.factor}': {verdict.detail} ({name})"] = None

    def _compare(self, factor: str, target: str, kinds: set[str]) -> None:
        """What was seen of a factor must be what the rule declares."""
        mixing = (ast.Mixes, ast.Positions, ast.Slides)
        mixes, sums = (factor in _named(self.rule, kind) for kind in (mixing, ast.Sums))
        example = f"'#: example {target}(...)'"
        if not kinds or WRONG in kinds:
            return
        if MIXES in kinds and not mixes:
            message = f"'{factor}' is said to be exact, but removing a slot is not the same as zeroing it"
            scales = factor in _named(self.rule, ast.Scales)
            help = f"is the operand, power or 'unless' of 'scales' another? else add 'mixes {factor}'"
            self._fail(message, factor, target, help if scales else f"add 'mixes {factor}'")
        elif SUMS in kinds and not (mixes or sums):
            message = f"the slots of '{factor}' are added up, although the result has them"
            self._fail(message, factor, target, f"add 'sums {factor}'")
        elif mixes and MIXES not in kinds:
            help = f"drop it, or add an example that shows it: {example}"
            self._fail(f"'mixes {factor}' is declared, but no call shows it", factor, target, help)
        elif sums and kinds == {EXACT}:
            help = f"drop it, or add an example that shows it: {example}"
            self._fail(f"'sums {factor}' is declared, but no call shows it", factor, target, help)

    def _expect_all(self, signature: ast.Signature, verdicts: Mapping[str, Verdict]) -> None:
        """Every factor must have been tried, or be held because the rule says so."""
        held = _named(self.rule, (ast.Hold, ast.Block))
        for factor in sorted({name.lstrip("*") for name in factor_names(signature)} - held):
            verdict = verdicts.get(factor)
            read = sum(_uses(operand.dims, factor) for operand in signature.inputs)
            uses = read and read + sum(_uses(result.dims, factor) for result in signature.outputs)
            if verdict is None and uses > 1:
                help = "add an example with more than one slot of it: '#: example ...'"
                self._fail(f"no call has shown what becomes of '{factor}'", factor, "", help)
            elif verdict and verdict.kind == HELD and uses > 1:
                self._fail(f"'{factor}' could not be tried: {verdict.detail}", factor)


def _named(rule: ast.Rule, kind: type | tuple[type, ...]) -> set[str]:
    """The factors that the rule's clauses of a kind name, without stars."""
    clauses = (clause for clause in rule.clauses if isinstance(clause, kind))
    return {name.lstrip("*") for clause in clauses for name in mentioned(clause)}


def _uses(dims: Iterable[ast.Dim], factor: str) -> int:
    return sum(name.lstrip("*") == factor for dim in dims for name in names_in(dim))


def _lacks_accelerator(message: str) -> bool:
    hints = ("CUDA", "NVIDIA", "accelerator")
    return any(hint in message for hint in hints) and not torch.cuda.is_available()


def complaint(example: Example) -> str | None:
    """What the operation says of a call that it does not take."""
    try:
        return None if run(Probe(example)) else "it returns no tensor"
    except Exception as error:  # the operation's own, whatever it is
        return f"{type(error).__name__}: {error}".partition("\n")[0]
