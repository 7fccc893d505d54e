"""What the law says of a factor, in one word."""

from __future__ import annotations

from attrs import frozen

EXACT, SUMS, MIXES, HELD, WRONG = "exact", "sums", "mixes", "held", "wrong"
SEVERITY = (HELD, EXACT, SUMS, MIXES, WRONG)


@frozen
class Verdict:
    """What the law says of one factor in one call; ``detail`` is what is wrong, or why it is held."""

    factor: str
    kind: str
    detail: str = ""


def severity(verdict: Verdict) -> int:
    """How bad a verdict is: a factor has the worst that any call gives it."""
    return SEVERITY.index(verdict.kind)


class Untried(Exception):
    """A rule could not be tried on a call: the call fails, or the rule does not fit it."""
