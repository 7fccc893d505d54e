"""How the command line shows what was found: tables on a terminal, the same words as plain text in a pipe."""

from __future__ import annotations

import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

PIPE_WIDTH = 120
NAMES_SHOWN = 3


def console() -> Console:
    """A console on standard output: as wide as the terminal, or of fixed width where there is none.

    Markup and emoji are off, since tensor names such as ``weight[0]`` are not styles.
    """
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(width=width, markup=False, emoji=False, highlight=False)


def groups_table(graph: Any) -> Table:
    """One row a group of the graph: what shrinks together, and what holds it back."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("group", "kind"):
        table.add_column(title, overflow="fold")
    table.add_column("slots", justify="right")
    for title in ("layers", "exact", "tie", "blocked"):
        table.add_column(title, overflow="fold")
    for group in graph.groups:
        table.add_row(
            group.name,
            group.kind,
            str(group.size),
            some_names(layers(group)),
            "yes" if group.exact else "no",
            tie_text(group.tie),
            group.blocked or "",
        )
    return table


def layers(group: Any) -> list[str]:
    """The layers that a group slices, each once, in the order of its members."""
    return list(dict.fromkeys(str(tensor).rpartition(".")[0] or str(tensor) for tensor, *_ in group.members))


def some_names(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def tie_text(tie: Any) -> str:
    """The groups that may only shrink by the same proportion."""
    return "" if tie is None else "with " + some_names([f"{name} ({size})" for name, size in tie])


def print_groups(graph: Any) -> None:
    """Print the table of groups, then the calls without a rule and what each of them costs."""
    out = console()
    out.print(groups_table(graph))
    for call in graph.unknown:
        out.print(
            f"no rule for {call.name} at {call.source}; it blocks {some_names(list(map(str, call.costs)))}"
        )
