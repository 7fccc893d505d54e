"""How the command line shows what was found: tables on a terminal, the same words as plain text in a pipe."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from .engine import DependencyGraph

PIPE_WIDTH = 120
NAMES_SHOWN = 3


def console() -> Console:
    """A console on standard output: as wide as the terminal, or of fixed width where there is none.

    Markup and emoji are off, since tensor names such as ``weight[0]`` are not styles.
    """
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(width=width, markup=False, emoji=False, highlight=False)


def groups_table(graph: DependencyGraph) -> Table:
    """One row for each group, then for each that something holds back: the last column says what."""
    held = [group for group in graph.blocked if group.producers]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("group", "kind"):
        table.add_column(title, overflow="fold")
    table.add_column("slots", justify="right")
    for title in ("layers", "exact", "tie", *(["blocked"] if held else [])):
        table.add_column(title, overflow="fold")
    for group in [*graph.groups, *held]:
        table.add_row(
            group.name,
            group.kind,
            str(group.size),
            some_names([layer or "the model itself" for layer in group.layers]),
            "yes" if group.exact else "no",
            tie_text(group.tie),
            *([group.blocked or ""] if held else []),
        )
    return table


def some_names(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def tie_text(tie: tuple[tuple[str, int], ...] | None) -> str:
    """The groups that may only shrink by the same proportion."""
    return "" if tie is None else "with " + some_names([f"{name} ({size})" for name, size in tie])


def print_groups(graph: DependencyGraph) -> None:
    """Print the table of groups, then each call without a rule, what it costs, and a rule to start from."""
    out = console()
    out.print(groups_table(graph))
    for call in graph.unknown:
        if call.costs:
            out.print(f"{call.reason}, {call.source}", soft_wrap=True)
            out.print(f"  It holds {some_names(call.costs)}. A rule to start from:", soft_wrap=True)
            out.print(textwrap.indent(call.stub, "    "), soft_wrap=True)
