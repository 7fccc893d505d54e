"""The kinds of malice: each is a module of this package that has ``run(seed, count) -> list[Tally]``.

`run` makes `count` tries that `seed` decides, and returns one tally for each operation. It neither prints nor
raises for what broke. The full run calls it many times, with other seeds, `at_once` tries at a time.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Kind:
    """How much of one kind is a full run, and how many tries one call of its `run` makes."""

    count: int
    at_once: int


# By the name of the module.
KINDS: dict[str, Kind] = {
    "injections": Kind(count=10_000, at_once=25),
    "odd_models": Kind(count=600, at_once=50),
    "failures": Kind(count=1_000, at_once=10),
    "signals": Kind(count=500, at_once=10),
    "threads": Kind(count=150, at_once=150),  # eight threads for about a minute
    "rule_texts": Kind(count=10_000, at_once=200),
    "command_lines": Kind(count=1_000, at_once=200),
    "files": Kind(count=2_000, at_once=100),
}
