"""``prunus rules check``, ``explain`` and ``new``: what can be known of a rule by trying it."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .engine.check import Checked, check, complaint
from .engine.probe import is_recorded
from .engine.stub import blank, stub_tried_apart
from .engine.verdict import EXACT, HELD, MIXES, SUMS, WRONG
from .errors import PrunusError, RuleError
from .grammar import did_you_mean
from .grammar.ast import Rule
from .rules import RuleSet, import_packages, load
from .rules.describe import describe, find_rule
from .rules.examples import Example, evaluate
from .rules.lint import Finding, lint
from .rules.signatures import argument_names, tensor_arguments
from .rules.targets import MissingTarget, resolve

_KINDS = (EXACT, SUMS, MIXES, HELD, WRONG)


def add_check(subcommands: Any) -> None:
    command = subcommands.add_parser(
        "check", help="lint rules, then try each on the operations it speaks for"
    )
    command.add_argument("files", nargs="*", metavar="FILE", help="default: the shipped rules")
    command.add_argument("--rule", action="append", metavar="NAME", help="only this one; may be repeated")
    command.add_argument("--json", action="store_true", help="everything that was found, as JSON")
    add_import(command)
    command.set_defaults(run=run_check)


def add_explain(subcommands: Any) -> None:
    command = subcommands.add_parser("explain", help="print a rule, where it is from, and its verdicts")
    command.add_argument("name", metavar="NAME", help="a rule's name, or a target: conv, torch.conv2d")
    command.add_argument(
        "--rules", action="append", metavar="FILE", help="rules to look in (default: default)"
    )
    add_import(command)
    command.set_defaults(run=run_explain)


def add_new(subcommands: Any) -> None:
    command = subcommands.add_parser("new", help="write a rule to start from, for an operation or a module")
    command.add_argument(
        "call", metavar="CALL", help="a call to try, 'my.ops.gate(randn(3, 8), randn(4))', or just a name"
    )
    add_import(command)
    command.set_defaults(run=run_new)


def add_import(command: Any) -> None:
    """Operators written in C++ have no Python name: only their package makes ``torch.ops.NAME`` known."""
    help = "a package to import first, for the operators that it registers; may be repeated"
    command.add_argument(
        "--import", action="append", default=[], dest="packages", metavar="PACKAGE", help=help
    )


def run_check(options: argparse.Namespace) -> int:
    """Exit status 1 if any lint finds an error or any rule is not what it says."""
    make_importable(options.files)
    import_all(options.packages)
    absent = import_packages()
    findings: list[Finding] = []
    tried: list[Checked] = []
    seen: set[str] = set()
    for file in options.files or [None]:
        found = lint_all(file)
        findings += found
        if any(finding.severity == "error" for finding in found):
            continue
        rules, own = rules_of(file)
        seen.update(rule.name for rule in own)
        for rule in own:
            if options.rule is None or rule.name in options.rule:
                tried.append(check(rule, rules))
                if not options.json:
                    print_checked(tried[-1])
    failed = any(finding.severity == "error" for finding in findings) or any(one.failures for one in tried)
    if not failed:
        expect_names(options.rule or (), seen)
    if options.json:
        print(json.dumps({**as_dict(findings, tried), "absent": absent}, indent=2))
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
    make_importable(options.rules or ())
    import_all(options.packages)
    print_absent(import_packages())
    rules = load(options.rules or ["default"])
    print(describe(rules, options.name))
    checked = check(find_rule(rules, options.name), rules)
    print(f"{checked.calls} calls tried: {verdicts_of(checked)}")
    for line in [*checked.notes, *map(str, checked.failures)]:
        print(line)


def run_new(options: argparse.Namespace) -> None:
    make_importable()
    import_all(options.packages)
    if "(" in options.call or "[" in options.call:
        try:
            example = evaluate(options.call)
        except ValueError as error:
            help = "write it as in Python, tensors as randn(3, 4)"
            raise PrunusError(f"the call {error}\nhelp: {help}") from error
        expect_recorded(example)
        print(stub_tried_apart(example))
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
    shipped = Path(__file__).parent / "rules"
    return [
        finding for path in ([file] if file else sorted(shipped.glob("*.rules"))) for finding in lint(path)
    ]


def rules_of(file: str | None) -> tuple[RuleSet, list[Rule]]:
    """The rule set of a file, and the rules that the file itself writes or refines."""
    rules = load(file or "default")
    names = dict.fromkeys(rule.name for rule in rules.layers[-1].statements(Rule))
    return rules, [rules.rules[name] for name in names]


def make_importable(files: Iterable[str] = ()) -> None:
    """Targets may be in the current directory, as models may, or beside the file that names them."""
    for folder in [os.getcwd(), *(str(Path(file).resolve().parent) for file in files)]:
        if folder not in sys.path:
            sys.path.append(folder)


def import_all(packages: Iterable[str]) -> None:
    for package in packages:
        try:
            importlib.import_module(package)
        except Exception as error:  # the package's own code: whatever it raises is to be reported
            raise PrunusError(f"importing {package} failed: {type(error).__name__}: {error}") from error


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
