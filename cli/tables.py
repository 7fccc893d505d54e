"""How the command line shows what was found: tables on a terminal, the same words as plain text in a pipe."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from shutil import get_terminal_size

from rich import box
from rich.console import Console
from rich.table import Table

from ..engine import DependencyGraph
from ..engine.explaining import listing
from ..engine.proving import with_stubs

PIPE_WIDTH = 120
NARROWEST = 60
NAMES_SHOWN = 2


class _Console(Console):
    """A console that leaves it to `main` what is done when nobody reads on."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    """A console on standard output: as wide as the terminal, or of fixed width where there is none.

    A narrow terminal breaks the lines of a table itself: in one as narrow, words would be left
    out. Markup and emoji are off, since tensor names such as ``weight[0]`` are not styles.
    """
    width = PIPE_WIDTH
    if sys.stdout.isatty():
        width = max(NARROWEST, get_terminal_size().columns)
    return _Console(width=width, markup=False, emoji=False, highlight=False)


def groups_table(graph: DependencyGraph) -> Table:
    """One row for each group, then for each that something holds back: the last column says what.

    Groups that shrink by the same proportion have the same number in the column ``tie``.
    """
    held = [group for group in graph.blocked if group.producers]
    ties = tie_numbers(graph)
    columns = [
        "group",
        "kind",
        "slots",
        "layers",
        "exact",
        *(["tie"] if ties else []),
        *(["blocked"] if held else []),
    ]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in columns:
        table.add_column(title, overflow="fold", justify="right" if title == "slots" else "left")
    for group in [*graph.groups, *held]:
        cells = {
            "group": group.name,
            "kind": group.kind,
            "slots": str(group.size),
            "layers": some_names([layer or "the model itself" for layer in group.layers]),
            "exact": "yes" if group.exact else "no",
            "tie": ties.get(group.name, ""),
            "blocked": group.blocked or "",
        }
        table.add_row(*(cells[title] for title in columns))
    return table


def tie_numbers(graph: DependencyGraph) -> dict[str, str]:
    """A number for each group that shrinks together with others, the same for all of them."""
    ties = [tied for tied in graph.tied() if len(tied) > 1]
    return {group.name: str(number) for number, tied in enumerate(ties, 1) for group in tied}


def some_names(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    return listing(names, NAMES_SHOWN)


def print_groups(graph: DependencyGraph) -> None:
    """Print the table of groups, then each call without a rule, what it costs, and a rule to start from."""
    out = console()
    out.print(groups_table(graph))
    for call, stub in with_stubs(call for call in graph.unknown if call.costs):
        more = " A rule to start from:" if stub else ""
        out.print(f"{call.reason}, {call.source}", soft_wrap=True)
        out.print(f"  It holds {some_names(call.costs)}.{more}", soft_wrap=True)
        if stub:
            out.print(textwrap.indent(stub, "    "), soft_wrap=True)
