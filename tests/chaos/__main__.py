"""Prints how often each operation was tried and how often it broke; fails if one did.

From the folder `tests`::

    python -m chaos --kind injections --count 200 --seed 3
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context
from time import monotonic

from rich.console import Console
from rich.table import Table

from .kinds import KINDS
from .tally import Tally, merged
from .tasks import Task, run


def main() -> None:
    """Run what the command line asks for."""
    options = _options()
    start, deadline = monotonic(), monotonic() + options.seconds
    tallies: list[Tally] = []
    for kind in options.kind or KINDS:
        tallies += _run_all(_tasks(kind, options), options.jobs, deadline)
    console = Console()
    console.print(_table(merged(tallies)))
    for one in merged(tallies):
        for fault in one.first:
            console.print(f"{one.operation}: {fault}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{monotonic() - start:.0f} seconds")
    sys.exit(any(one.broken for one in tallies))


def _options() -> Namespace:
    parser = ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--kind", action="append", choices=KINDS, help="several may be given; all by default")
    parser.add_argument("--count", type=int, help="how many tries of each kind")
    parser.add_argument("--seed", type=int, default=0, help="where the random numbers start")
    parser.add_argument("--jobs", type=int, default=1, help="how many processes")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start nothing after so long")
    return parser.parse_args()


def _tasks(kind: str, options: Namespace) -> Iterator[Task]:
    """The tries of one kind, some at a time, each time with another seed."""
    left = KINDS[kind].count if options.count is None else options.count
    for seed in count(options.seed * 100_000):
        if left <= 0:
            return
        yield kind, seed, min(left, KINDS[kind].at_once)
        left -= KINDS[kind].at_once


def _run_all(tasks: Iterable[Task], jobs: int, deadline: float) -> Iterator[Tally]:
    if jobs == 1:
        for task in tasks:
            yield from run(task, deadline)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for found in [pool.submit(run, task, deadline) for task in tasks]:
            yield from found.result()


def _table(tallies: list[Tally]) -> Table:
    table = Table("operation")
    for name in ("tried", "broken"):
        table.add_column(name, justify="right")
    for one in tallies:
        table.add_row(one.operation, f"{one.tried:,}", f"{one.broken:,}")
    table.add_row("all", f"{sum(one.tried for one in tallies):,}", f"{sum(one.broken for one in tallies):,}")
    return table


if __name__ == "__main__":
    main()
