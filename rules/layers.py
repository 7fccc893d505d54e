"""One layer of rules over another: what is replaced, what is refined, what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from attrs import astuple, define, evolve, field, frozen

from ..errors import RuleError, throw
from ..grammar import did_you_mean, narrow, validate
from ..grammar.ast import (
    At,
    Clause,
    ModuleRule,
    Relation,
    Rule,
    RuleFile,
    Scales,
    Signature,
    Span,
    Target,
    Targets,
    Where,
)
from ..grammar.validate import OF_OPERANDS, Fail
from ..torch_private import OpOverload, OpOverloadPacket
from .arguments import argument_names
from .targets import MissingTarget, NotImported, fallbacks, resolve, spellings


@frozen(eq=False)
class Layer:
    """Files that count as one: among them an explicit target beats an implied spelling."""

    name: str
    files: tuple[RuleFile, ...]
    shipped: bool

    def statements(self, kind: type) -> Iterator[Any]:
        """All statements of one kind, in order."""
        return (s for file in self.files for s in file.statements if isinstance(s, kind))

    def targets(self) -> Iterator[Target]:
        """Everything this layer speaks for, module rules included."""
        for statement in self.statements(Targets):
            yield from statement.targets
        for rule in self.statements(ModuleRule):
            yield module_target(rule)


@define
class Tables:
    """Rules by name and by callable; for each explicit target also where it was written."""

    rules: dict[str, Rule] = field(factory=dict)
    written: dict[Callable[..., Any], Target] = field(factory=dict)
    explicit: dict[Callable[..., Any], Rule] = field(factory=dict)
    speaks: dict[Callable[..., Any], Rule] = field(factory=dict)
    modules: dict[type, ModuleRule] = field(factory=dict)

    def copy(self) -> Tables:
        """Tables of their own, to lay more over these."""
        return Tables(*(dict(table) for table in astuple(self, recurse=False)))

    def rule_for(self, target: Callable[..., Any]) -> Rule | None:
        """The rule of a callable, or of what an operator falls back to."""
        rule = self.speaks.get(target)
        if rule is None and isinstance(target, (OpOverload, OpOverloadPacket)):
            rule = next((self.speaks[other] for other in fallbacks(target) if other in self.speaks), None)
        return rule


def module_target(rule: ModuleRule) -> Target:
    """The target of a ``module`` rule, which is written without a list."""
    return Target(rule.target, span=narrow(rule.span, rule.target))


def lay(layer: Layer, tables: Tables, present: tuple[str, ...], fail: Fail = throw) -> None:
    """Add a layer to the tables; its rules win over what is there.

    Each `RuleError` is given to ``fail``; if that returns, what is wrong is left out.
    """
    _lay_rules(layer, tables, fail)
    faulty = {rule.name for rule in layer.statements(Rule)} - tables.rules.keys()
    explicit: dict[Callable[..., Any], Rule] = {}
    implied: dict[Callable[..., Any], Rule] = {}
    for statement in layer.statements(Targets):
        rule = tables.rules.get(statement.rule)
        if rule is None and statement.rule not in faulty:
            help = did_you_mean(statement.rule, tables.rules) or f"write '{statement.rule}: ...'"
            fail(_error(f"no rule is called '{statement.rule}'", statement.span, statement.rule, help))
        for target in statement.targets:
            found = find(target, layer, present, fail)
            if found is not None and rule is not None:
                check_arguments(rule, target, found, fail)
                explicit[found] = rule
                tables.written[found] = target
                implied.update(dict.fromkeys(spellings(target.name), rule))
    tables.explicit.update(explicit)
    tables.speaks.update({**implied, **explicit})
    for module in layer.statements(ModuleRule):
        target = module_target(module)
        found = find(target, layer, present, fail)
        if found is None:
            continue
        if isinstance(found, type) and issubclass(found, torch.nn.Module):
            tables.modules[found] = module
        else:
            help = "'module' is for subclasses of torch.nn.Module"
            fail(RuleError(f"'{module.target}' is not a module class", target.span, help))


def _lay_rules(layer: Layer, tables: Tables, fail: Fail) -> None:
    """Take the rules of a layer: with a body they replace, without one they refine."""
    named = {statement.rule for statement in layer.statements(Targets)}
    # Of each name the rule below and those that replace it, in order, with what refines each of them.
    versions: dict[str, list[tuple[Rule, list[Clause]]]] = {}
    for rule in layer.statements(Rule):
        old = tables.rules.get(rule.name)
        found = versions.setdefault(rule.name, [] if old is None else [(old, [])])
        if rule.body is not None:
            if not found and rule.name not in named:
                fail(_no_targets(rule, [*tables.rules, *versions, *named]))
            found.append((rule, []))
        elif found:
            found[-1][1].extend(rule.clauses)
        else:
            fail(_no_body(rule, named, [*tables.rules, *versions]))
    heirs: dict[int, Rule] = {}
    for name, found in versions.items():
        rules = [_refined(rule, clauses, fail) for rule, clauses in found]
        heir = rules[0 if name in named else -1] if rules else None
        if heir is not None and name in tables.rules:
            heirs[id(tables.rules[name])] = heir
        tables.rules.update({name: rules[-1]} if rules else {})
    _replace(tables, heirs, fail)


def _refined(rule: Rule, clauses: list[Clause], fail: Fail) -> Rule:
    """A rule with more clauses."""
    if not clauses:
        return rule
    validate(evolve(rule, clauses=tuple(clauses)), fail)
    return evolve(rule, clauses=(*rule.clauses, *clauses))


def _replace(tables: Tables, heirs: dict[int, Rule], fail: Fail) -> None:
    """Let every callable that had an old rule have its heir; all in one go, as there may be many of both."""
    if not heirs:
        return
    for found, rule in tables.explicit.items():
        if heirs.get(id(rule), rule) is not rule:
            check_arguments(heirs[id(rule)], tables.written[found], found, fail)
    for table in (tables.explicit, tables.speaks):
        table.update({target: heirs[id(rule)] for target, rule in table.items() if id(rule) in heirs})


def find(
    target: Target, layer: Layer, present: tuple[str, ...], fail: Fail = throw
) -> Callable[..., Any] | None:
    """The callable of a target; ``None`` for a shipped one that this installation does not have."""
    parts = target.name.split(".")
    package = parts[2] if parts[:2] == ["torch", "ops"] and len(parts) > 2 else parts[0]
    if layer.shipped and package not in (*present, "torch", "aten"):
        return None
    try:
        return resolve(target.name)
    except MissingTarget as missing:
        if not layer.shipped and not isinstance(missing, NotImported):
            fail(RuleError(f"no target '{target.name}'", target.span, missing.help))
        return None


def check_arguments(rule: Rule, target: Target, found: Callable[..., Any], fail: Fail = throw) -> None:
    """Call ``fail`` for each argument or parameter that the rule names and its target does not have."""
    is_module = isinstance(found, type) and issubclass(found, torch.nn.Module)
    known = argument_names(found)
    for name, span in _arguments_of(rule):
        base = name.replace("[", ".").split(".")[0]
        if base == "self" and not (known and "self" in known):
            if not is_module:
                message = f"'{name}' needs a module, and {target.name} is none"
                fail(RuleError(message, narrow(span, name), "name one of its arguments"))
        elif known is not None and base not in known:
            message = f"'{base}' is not an argument of {target.name}"
            help = did_you_mean(base, known) or f"its arguments are {', '.join(known)}"
            help += f"; a parameter is written 'self.{base}'" if is_module else ""
            fail(_error(message, span, base, help))


def _arguments_of(rule: Rule) -> Iterator[tuple[str, Span]]:
    """The arguments a rule names, with the places where it does."""
    if isinstance(rule.body, Signature):
        for operand in rule.body.inputs:
            if operand.name is not None:
                yield operand.name, operand.span
    for clause in rule.clauses:
        if isinstance(clause, (Where, At)) and not clause.argument.startswith("*"):
            # Search behind the "=": the factor may have the same name.
            start = clause.span.text.find("=", clause.span.column - 1) + 1
            yield clause.argument, replace(clause.span, column=max(start + 1, clause.span.column))
        elif isinstance(clause, OF_OPERANDS) and isinstance(rule.body, Relation):
            yield from ((name, clause.span) for term in clause.terms for name in term)
        elif isinstance(clause, Scales):
            yield clause.operand, clause.span
            if clause.unless is not None:
                start = clause.span.text.find("unless", clause.span.column - 1) + len("unless")
                yield clause.unless, replace(clause.span, column=max(start + 1, clause.span.column))


def _no_body(rule: Rule, named: set[str], known: list[str]) -> RuleError:
    if rule.name in named:
        help = "give it a signature or a relation: 'input[...] -> [...]'"
        return _error(f"rule '{rule.name}' has no body", rule.span, rule.name, help)
    others = [name for name in known if name != rule.name]
    help = did_you_mean(rule.name, others) or "a rule without a body refines one of a lower layer"
    return _error(f"no rule '{rule.name}' to refine", rule.span, rule.name, help)


def _no_targets(rule: Rule, known: list[str]) -> RuleError:
    others = [name for name in known if name != rule.name]
    help = did_you_mean(rule.name, others) or f"write '{rule.name} = ...' above it"
    return _error(f"rule '{rule.name}' has no targets", rule.span, rule.name, help)


def _error(message: str, span: Span, name: str, help: str | None) -> RuleError:
    return RuleError(message, narrow(span, name), help)
