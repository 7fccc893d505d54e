"""One layer of rules over another: what is replaced, what is refined, what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from attrs import define, evolve, field, frozen

from ..errors import RuleError
from ..grammar import did_you_mean, narrow, report, validate
from ..grammar.ast import At, ModuleRule, Rule, RuleFile, Signature, Target, Targets, Where
from .signatures import argument_names
from .targets import MissingTarget, fallbacks, resolve, spellings


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
            yield Target(rule.target, span=narrow(rule.span, rule.target))


@define
class Tables:
    """Rules by name and by callable; for each explicit target also where it was written."""

    rules: dict[str, Rule] = field(factory=dict)
    written: dict[Callable[..., Any], Target] = field(factory=dict)
    explicit: dict[Callable[..., Any], Rule] = field(factory=dict)
    speaks: dict[Callable[..., Any], Rule] = field(factory=dict)
    modules: dict[type, ModuleRule] = field(factory=dict)

    def rule_for(self, target: Callable[..., Any]) -> Rule | None:
        """The rule of a callable, or of what an operator falls back to."""
        rule = self.speaks.get(target)
        if rule is None and isinstance(target, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
            rule = next((self.speaks[other] for other in fallbacks(target) if other in self.speaks), None)
        return rule


def lay(layer: Layer, tables: Tables, present: tuple[str, ...]) -> None:
    """Add a layer to the tables; its rules win over what is there."""
    _lay_rules(layer, tables)
    explicit: dict[Callable[..., Any], Rule] = {}
    implied: dict[Callable[..., Any], Rule] = {}
    for statement in layer.statements(Targets):
        rule = tables.rules.get(statement.rule)
        if rule is None:
            help = did_you_mean(statement.rule, tables.rules) or f"write '{statement.rule}: ...'"
            raise _error(f"no rule is called '{statement.rule}'", statement.span, statement.rule, help)
        for target in statement.targets:
            found = _find(target, layer, present)
            if found is not None:
                check_arguments(rule, target, found)
                explicit[found] = rule
                tables.written[found] = target
                implied.update(dict.fromkeys(spellings(target.name), rule))
    tables.explicit.update(explicit)
    tables.speaks.update({**implied, **explicit})
    for module in layer.statements(ModuleRule):
        target = Target(module.target, span=narrow(module.span, module.target))
        found = _find(target, layer, present)
        if found is None:
            continue
        if not (isinstance(found, type) and issubclass(found, torch.nn.Module)):
            help = "'module' is for subclasses of torch.nn.Module"
            raise RuleError(report(f"'{module.target}' is not a module class", target.span, help))
        tables.modules[found] = module


def _lay_rules(layer: Layer, tables: Tables) -> None:
    """Take the rules of a layer: with a body they replace, without one they refine."""
    named = {statement.rule for statement in layer.statements(Targets)}
    for rule in layer.statements(Rule):
        below = tables.rules.get(rule.name)
        if rule.body is None:
            if below is None:
                raise _no_body(rule, named, tables)
            new = evolve(below, clauses=below.clauses + rule.clauses)
            validate(new)
        elif below is None and rule.name not in named:
            help = did_you_mean(rule.name, [*tables.rules, *named]) or f"write '{rule.name} = ...' above it"
            raise _error(f"rule '{rule.name}' has no targets", rule.span, rule.name, help)
        else:
            new = rule
        tables.rules[rule.name] = new
        if below is not None and (rule.body is None or rule.name not in named):
            _replace(tables, below, new)


def _replace(tables: Tables, old: Rule, new: Rule) -> None:
    """Let every callable that had the old rule have the new one."""
    for found, rule in tables.explicit.items():
        if rule is old:
            check_arguments(new, tables.written[found], found)
    for table in (tables.explicit, tables.speaks):
        table.update({target: new for target, rule in table.items() if rule is old})


def _find(target: Target, layer: Layer, present: tuple[str, ...]) -> Callable[..., Any] | None:
    """The callable of a target; ``None`` for a shipped one that this installation does not have."""
    parts = target.name.split(".")
    package = parts[2] if parts[:2] == ["torch", "ops"] and len(parts) > 2 else parts[0]
    if layer.shipped and package not in (*present, "torch", "aten"):
        return None
    try:
        return resolve(target.name)
    except MissingTarget as missing:
        if layer.shipped:
            return None
        raise RuleError(report(f"no target '{target.name}'", target.span, missing.help)) from None


def check_arguments(rule: Rule, target: Target, found: Callable[..., Any]) -> None:
    """Raise ``RuleError`` if a rule names an argument or a parameter that its target does not have."""
    is_module = isinstance(found, type) and issubclass(found, torch.nn.Module)
    known = argument_names(found)
    for name, span in _arguments_of(rule):
        base = name.replace("[", ".").split(".")[0]
        if base == "self" and not (known and "self" in known):
            if not is_module:
                message = f"'{name}' needs a module, and {target.name} is none"
                raise RuleError(report(message, narrow(span, name), "name one of its arguments"))
        elif known is not None and base not in known:
            message = f"'{base}' is not an argument of {target.name}"
            help = did_you_mean(base, known) or f"its arguments are {', '.join(known)}"
            raise _error(message, span, base, help)


def _arguments_of(rule: Rule) -> Iterator[tuple[str, Any]]:
    """The arguments a rule names, with the places where it does."""
    if isinstance(rule.body, Signature):
        for operand in rule.body.inputs:
            if operand.name is not None:
                yield operand.name, operand.span
    for clause in rule.clauses:
        if isinstance(clause, (Where, At)) and not clause.argument.startswith("*"):
            # Search behind the "=": the factor may have the same name.
            start = clause.span.text.find("=", clause.span.column - 1) + 1
            yield clause.argument, evolve(clause.span, column=max(start + 1, clause.span.column))


def _no_body(rule: Rule, named: set[str], tables: Tables) -> RuleError:
    if rule.name in named:
        help = "give it a signature or a relation: 'input[...] -> [...]'"
        return _error(f"rule '{rule.name}' has no body", rule.span, rule.name, help)
    help = did_you_mean(rule.name, tables.rules) or "a rule without a body refines one of a lower layer"
    return _error(f"no rule '{rule.name}' to refine", rule.span, rule.name, help)


def _error(message: str, span: Any, name: str, help: str | None) -> RuleError:
    return RuleError(report(message, narrow(span, name), help))
