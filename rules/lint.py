"""Static lints: what can be told about a rule file without running any operation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from os import PathLike
from pathlib import Path

from attrs import converters, evolve, field, frozen

from ..errors import RuleFileError, brief
from ..grammar import did_you_mean, narrow, report
from ..grammar.ast import (
    At,
    Clause,
    Dim,
    Factor,
    Operand,
    Product,
    Relation,
    Rule,
    RuleFile,
    Signature,
    Span,
    Sum,
    Target,
    Targets,
    Where,
)
from ..grammar.reading import read
from ..grammar.validate import mentioned, names_in
from .layers import Layer, find
from .load import MOST, RuleSet, draft


@frozen
class Finding:
    """What a lint has to say: an "error" is what loading the file raises, or a rule that never fits."""

    severity: str
    message: str = field(converter=brief)
    span: Span | None = None
    help: str | None = field(default=None, converter=converters.optional(brief))

    def __str__(self) -> str:
        return report(self.message, self.span, self.help, self.severity)

    def to_dict(self) -> dict[str, str | None]:
        """The same as plain data."""
        at = f"{self.span}:{self.span.column}" if self.span else None
        return {"severity": self.severity, "message": self.message, "at": at, "help": self.help}


@frozen(eq=False)
class Linted:
    """A file, the rule set that it is the top of, and the layer in which it counts."""

    file: RuleFile
    rules: RuleSet

    @property
    def layer(self) -> Layer:
        return self.rules.layers[-1]

    def whole_rules(self) -> Iterator[Rule]:
        """The file's rules with a body, each with the clauses that refine it further down."""
        found: list[tuple[Rule, list[Clause]]] = []
        last: dict[str, list[Clause]] = {}
        for rule in (statement for statement in self.file.statements if isinstance(statement, Rule)):
            if rule.body is not None:
                last[rule.name] = [*rule.clauses]
                found.append((rule, last[rule.name]))
            elif rule.name in last:
                last[rule.name] += rule.clauses
        return (evolve(rule, clauses=tuple(clauses)) for rule, clauses in found)


def lint(path: str | PathLike, text: str | None = None) -> list[Finding]:
    """Lint the rule file ``path``, or ``text`` as if it stood there, in the order of its lines.

    The file is taken to lie over the shipped rules, whether or not it says ``use default``.
    A syntax error is found alone; every other finding does not hide the rest, up to a
    hundred errors and a hundred warnings.

    Raises
    ------
    RuleError
        There is no such file.

    Examples
    --------
    >>> print(*lint("my.rules", "mine = torch.relu\\nmine: inptu[*x] -> [*x]"))
    error: 'inptu' is not an argument of torch.relu
      my.rules:2:7
        mine: inptu[*x] -> [*x]
              ^^^^^
    help: did you mean 'input'?
    """
    errors: list[RuleFileError] = []
    found: list[Finding] = []
    try:
        linted = Linted(*draft(read(Path(path), str(path)) if text is None else text, path, errors.append))
        found = list(islice((finding for check in LINTS for finding in check(linted)), MOST))
    except RuleFileError as error:
        if error.span is None:
            raise
        errors.append(error)
    wrong = [Finding("error", error.message, error.span, error.help) for error in errors]
    return sorted(dict.fromkeys([*wrong, *found]), key=_place)


def _place(finding: Finding) -> tuple[int, int]:
    return (finding.span.line, finding.span.column) if finding.span else (0, 0)


def lonely_factors(linted: Linted) -> Iterator[Finding]:
    """A factor that is written once couples nothing: it is mistyped, or should say that it is held."""
    for rule in linted.whole_rules():
        if not isinstance(rule.body, Signature) or rule.body.short:
            continue
        operands = rule.body.inputs + rule.body.outputs
        uses = Counter(name for operand in operands for dim in operand.dims for name in names_in(dim))
        uses.update(name for clause in rule.clauses for name in mentioned(clause))
        for operand in operands:
            for name in (name for dim in operand.dims for name in names_in(dim) if uses[name] == 1):
                others = [other for other in uses if other != name]
                help = f"write 'hold {name}' if it is meant to stay, or '_' to say nothing of this axis"
                yield Finding(
                    "warning",
                    f"'{name}' is written only once in {rule.name}",
                    narrow(operand.span, name),
                    did_you_mean(name, others) or help,
                )


def unsized_parts(linted: Linted) -> Iterator[Finding]:
    """Parts of one product or sum that are nowhere alone and in no ``where`` have no sizes: no call fits."""
    for rule in linted.whole_rules():
        if not isinstance(rule.body, Signature):
            continue
        operands = rule.body.inputs + rule.body.outputs
        sized = {clause.factor for clause in rule.clauses if isinstance(clause, Where)}
        sized |= {dim.name for operand in operands for dim in operand.dims if isinstance(dim, Factor)}
        compounds = [(operand, dim) for operand in operands for dim in operand.dims if _is_compound(dim)]
        before = -1
        while before < len(sized):
            before = len(sized)
            for _, dim in compounds:
                sized |= _solved(dim, sized)
        for operand, dim in compounds:
            unknown = [name for name in names_in(dim) if name not in sized]
            if unknown:
                yield _unsized(operand, unknown)
                sized.update(unknown)


def _is_compound(dim: Dim) -> bool:
    return isinstance(dim, (Product, Sum))


def _solved(dim: Dim, sized: set[str]) -> set[str]:
    """The factor whose size is what the other parts leave, if only one is unknown."""
    if isinstance(dim, Factor):
        return {dim.name}
    unknown = [part for part in getattr(dim, "parts", ()) if not sized.issuperset(names_in(part))]
    return _solved(unknown[0], sized) if len(unknown) == 1 else set()


def _unsized(operand: Operand, unknown: list[str]) -> Finding:
    *names, last = (f"'{name}'" for name in dict.fromkeys(unknown))
    which = f"sizes of {', '.join(names)} and {last}" if names else f"size of {last}"
    help = f"say how large one is, for example 'where {unknown[0]} = ...'"
    return Finding("error", f"the {which} cannot be told", narrow(operand.span, unknown[0]), help)


def replaced_rules(linted: Linted) -> Iterator[Finding]:
    """Of two rules of one name in one layer the later counts, for all targets of both."""
    first: dict[str, Rule] = {}
    own = {id(statement) for statement in linted.file.statements}
    for rule in (rule for rule in linted.layer.statements(Rule) if rule.body is not None):
        earlier = first.setdefault(rule.name, rule)
        if earlier is not rule and id(rule) in own:
            message = f"rule '{rule.name}' replaces the one of {earlier.span}"
            yield Finding("warning", message, narrow(rule.span, rule.name), "give one of them another name")


def rival_targets(linted: Linted) -> Iterator[Finding]:
    """Of two rules of one layer with the same target the later counts, whoever wrote it."""
    first: dict[Callable, tuple[str, Target]] = {}
    own = {id(statement) for statement in linted.file.statements}
    for statement in linted.layer.statements(Targets):
        for target in statement.targets:
            found = find(target, linted.layer, (), lambda _: None)
            if found is None:
                continue
            rule, earlier = first.setdefault(found, (statement.rule, target))
            # One rule may list two spellings of one callable: torch.prelu, torch.nn.functional.prelu.
            is_rival = rule != statement.rule or (earlier is not target and earlier.name == target.name)
            if is_rival and id(statement) in own:
                message = f"'{target.name}' is already a target of '{rule}', {earlier.span}"
                yield Finding("warning", message, target.span, "the later one counts; remove one of them")


def idle_clauses(linted: Linted) -> Iterator[Finding]:
    """A verb reads the arguments of the call by itself: ``where`` and ``at`` say nothing to it."""
    for rule in linted.whole_rules():
        for clause in rule.clauses if isinstance(rule.body, Relation) else ():
            if isinstance(clause, (Where, At)):
                message = f"'{clause.factor} = {clause.argument}' says nothing to a verb"
                yield Finding("warning", message, clause.span, "remove it: a verb reads the arguments itself")


LINTS = (lonely_factors, unsized_parts, replaced_rules, rival_targets, idle_clauses)
