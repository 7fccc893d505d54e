"""A small part of the injections of `make chaos`: nothing stays changed, whatever comes up, and wherever."""

from __future__ import annotations

import pytest
from chaos import failures, injections
from chaos.nets import NETS
from chaos.operations import OPERATIONS

PLAIN = list(NETS).index("plain") * len(OPERATIONS)  # the seed of the first operation on the smallest network


# While these run, neither torch nor the user's code does: nothing fails in them.
CALM = ("load", "schedule state")


# Real signals come at moments that no seed decides: they are for `make chaos`.
@pytest.mark.parametrize("kind", [injections, failures], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("number", range(len(OPERATIONS)), ids=list(OPERATIONS))
def test_nothing_stays_changed(number, kind):
    """Of an operation that is interrupted at a line, in torch, or in the user's code."""
    tallies = kind.run(PLAIN + number, {injections: 4, failures: 3}[kind])
    assert bool(tallies) == (kind is injections or list(OPERATIONS)[number] not in CALM)
    for tally in tallies:
        assert tally.tried
        assert not tally.broken, "\n".join(tally.first)
