"""``prunus rules check``, ``explain`` and ``new``: what can be known of a rule by trying it."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..engine.proving import (
    EXACT,
    HELD,
    MIXES,
    SUMS,
    WRONG,
    Checked,
    blank,
    check,
    complaint,
    is_recorded,
    stub_tried_apart,
)
from ..errors import PrunusError, RuleError
from ..grammar import did_you_mean
from ..grammar.ast import Rule
from ..rules import RuleSet, import_packages, load
from ..rules.arguments import argument_names, tensor_arguments
from ..rules.describe import describe, find_rule
from ..rules.examples import Example, evaluate
from ..rules.lint import Finding, lint
from ..rules.targets import MissingTarget, resolve
from .modules import import_all, make_folders_importable, make_importable
from .output import answer, working

_KINDS = (EXACT, SUMS, MIXES, HELD, WRONG)


def run_check(options: argparse.Namespace) -> int:
    """Exit status 1 if any lint finds an error or any rule is not what it says."""
    absent = packages_for(options.packages, options.files)
    findings: list[Finding] = []
    tried: list[Checked] = []
    seen: set[str] = set()
    for file in options.files or [None]:
        with working(f"reading {file or 'the shipped rules'} ..."):
            found = lint_all(file)
        findings += found
        if any(finding.severity == "error" for finding in found):
            continue
        rules, own = rules_of(file)
        seen.update(rule.name for rule in own)
        for rule in own:
            if options.rule is None or rule.name in options.rule:
                with working(f"trying {rule.name}, {len(tried) + 1} ..."):
                    tried.append(check(rule, rules))
                if not options.json:
                    print_checked(tried[-1])
    failed = any(finding.severity == "error" for finding in findings) or any(one.failures for one in tried)
    if not failed:
        expect_names(options.rule or (), seen)
    if options.json:
        answer({**as_dict(findings, tried), "absent": absent})
    else:
        print_absent(absent)
        for finding in findings:
            print(finding)
        print(summary(tried) if tried else "no rule was tried")
    return int(failed)


def expect_names(names: Iterable[str], known: Iterable[str]) -> None:
    """A rule that was asked for and is not there must not pass for one that was tried."""
    for name in names:
        if name not in known:
            help = did_you_mean(name, known) or "'--rule' takes a name that the files have"
            raise RuleError(f"no rule is called '{name}'", help=help)


def run_explain(options: argparse.Namespace) -> None:
    print_absent(packages_for(options.packages, options.rules or ()))
    make_importable(options.name)
    with working(f"trying {options.name} ..."):
        rules = load(options.rules or ["default"])
        told = describe(rules, options.name)
        checked = check(find_rule(rules, options.name), rules)
    print(told)
    print(f"{checked.calls} calls tried: {verdicts_of(checked)}")
    for line in [*checked.notes, *map(str, checked.failures)]:
        print(line)


def run_new(options: argparse.Namespace) -> None:
    packages_for(options.packages, ())
    make_importable(options.call)
    if "(" in options.call or "[" in options.call:
        try:
            with working(f"trying {options.call} ..."):
                example = evaluate(options.call)
        except ValueError as error:
            help = "write it as in Python, tensors as randn(3, 4)"
            raise PrunusError(f"the call {error}\nhelp: {help}") from error
        with working(f"trying {options.call} ..."):
            expect_recorded(example)
            stub = stub_tried_apart(example)
        print(stub)
        return
    try:
        target = resolve(options.call)
    except MissingTarget as missing:
        raise PrunusError(f"no '{options.call}'" + (f"; {missing.help}" if missing.help else "")) from missing
    print(blank(options.call, tensor_arguments(target) or argument_names(target) or ()))


def expect_recorded(example: Example) -> None:
    """The call must run, and a rule for a callable that the trace looks into would never be used."""
    said = complaint(example)
    if said is not None:
        raise PrunusError(f"the call '{example.text}' fails: {said}\nhelp: write a call that runs")
    if not is_recorded(example):
        raise PrunusError(
            f"{example.name} needs no rule: the trace looks into it, and rules speak of what it calls\n"
            "help: targets are operators, autograd functions, module classes and functions of torch"
        )


def lint_all(file: str | None) -> list[Finding]:
    """The lints of a file, or of all shipped ones."""
    shipped = Path(__file__).parent.parent / "rules"
    return [
        finding for path in ([file] if file else sorted(shipped.glob("*.rules"))) for finding in lint(path)
    ]


def rules_of(file: str | None) -> tuple[RuleSet, list[Rule]]:
    """The rule set of a file, and the rules that the file itself writes or refines."""
    rules = load(file or "default")
    names = dict.fromkeys(rule.name for rule in rules.layers[-1].statements(Rule))
    return rules, [rules.rules[name] for name in names]


def packages_for(wanted: Iterable[str], files: Iterable[str]) -> dict[str, str]:
    """Import what rules may speak of; for each package of shipped ones that is not there, the reason.

    Those come from where packages are installed; only what the user names may be in the current folder, or
    beside its file.
    """
    with working("importing packages ..."):
        absent = import_packages()
    make_folders_importable(files)
    import_all(wanted)
    return absent


def print_absent(packages: Mapping[str, str]) -> None:
    """Rules for packages that cannot be imported are left out, which is to be known."""
    for package, reason in packages.items():
        print(f"note: the rules for {package} are left out: {reason}")


def print_checked(checked: Checked) -> None:
    rule = checked.rule
    print(f"{rule.span!s:22} {rule.name:18} {checked.calls:4} calls   {verdicts_of(checked)}")
    for note in checked.notes:
        print(f"    note: {note}")
    for failure in checked.failures:
        print(failure)


def verdicts_of(checked: Checked) -> str:
    """``exact: n, out   held: k``"""
    parts = []
    for kind in _KINDS:
        names = [name for name, verdict in checked.verdicts.items() if verdict.kind == kind]
        parts += [f"{kind}: {', '.join(names)}"] if names else []
    return "   ".join(parts)


def summary(tried: Iterable[Checked]) -> str:
    """One line: how many rules, targets, calls and factors, and the verdicts."""
    tried = list(tried)
    counts = sum((one.counts for one in tried), Counter())
    numbers = ", ".join(f"{counts[kind]} {kind}" for kind in _KINDS)
    failed = sum(bool(one.failures) for one in tried)
    return (
        f"{len(tried)} rules for {sum(len(one.targets) for one in tried)} operations, "
        f"{sum(one.calls for one in tried)} calls tried; {counts.total()} factors: {numbers}; "
        f"{failed} rules failed"
    )


def as_dict(findings: Iterable[Finding], tried: Iterable[Checked]) -> dict[str, Any]:
    return {
        "lints": [finding.to_dict() for finding in findings],
        "rules": [one.to_dict() for one in tried],
        "summary": summary(tried),
    }
