"""What is known of a rule, in text: for the command line and for editors."""

from __future__ import annotations

from ..errors import RuleError, Span
from ..grammar import did_you_mean, format_statement
from ..grammar.ast import Rule, Target, Targets
from . import RuleSet
from .targets import MissingTarget, NotImported, resolve


def describe(rules: RuleSet, name: str) -> str:
    """The rule of that name, or of the target of that dotted name: comment, targets, rule, file and line.

    Raises
    ------
    RuleError
        There is no such rule or target, or none for this target.

    Examples
    --------
    >>> from prunus.rules import load
    >>> print(describe(load(), "torch.softmax").splitlines()[0])
    # Along the axis every slot counts for the others.
    """
    rule = find_rule(rules, name)
    comment = [f"# {line}".rstrip() for line in rule.comment.split("\n") if rule.comment]
    targets = tuple(Target(target, span=rule.span) for target in rules.targets_of(rule))
    listed = [format_statement(Targets(rule.name, targets, span=rule.span))] if targets else []
    places = dict.fromkeys(str(span) for span in (rule.span, *_refinements(rule)))
    return "\n".join([*comment, *listed, format_statement(rule), ", ".join(places)])


def find_rule(rules: RuleSet, name: str) -> Rule:
    """The rule of that name, else the rule of that target; see `describe`."""
    if name in rules.rules:
        return rules.rules[name]
    try:
        rule = rules.rule_for(resolve(name))
    except MissingTarget as missing:
        if isinstance(missing, NotImported):
            raise RuleError(f"nothing is known of '{name}': {missing.help}") from None
        close = None if "." in name else did_you_mean(name, rules.rules)
        help = close or missing.help or "give a rule's name or a dotted target"
        raise RuleError(f"no rule and no target is called '{name}'", help=help) from None
    if rule is None:
        raise RuleError(f"no rule for {name}", help=f"'prunus rules new {name}' writes one to start from")
    return rule


def _refinements(rule: Rule) -> list[Span]:
    """Where clauses come from that another file has added."""
    return [clause.span for clause in rule.clauses if clause.span.file != rule.span.file]
