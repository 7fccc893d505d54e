"""How the time of analysis, pruning and the report grows with the model.

``python benchmarks/scale.py [--rows depth ...] [--jobs analyze prune report] [--repeats 3]`` measures models
of three sizes a row and prints, for each job, the seconds of CPU and the exponent: the slope of the seconds
over the number that the row names, both as logarithms. An exponent of 1 is linear. ``--llama`` analyses a
Llama of 70 billion parameters, without its weights, at three depths instead.

A row grows one number and keeps the others: calls of the forward, segments that concatenations put side by
side (a dense block of n layers has n ** 2 / 2), parameters, slots of a group, groups, splits of one axis.
"""

from __future__ import annotations

import argparse
import gc
import math
import resource
import time
from collections.abc import Callable, Sequence

import scale_models
import torch
from attrs import frozen
from prunus import engine
from prunus.report import page
from torch import Tensor, nn

Job = Callable[[nn.Module, Tensor], object]


@frozen
class Row:
    """Models that grow: `build` makes one for each of the sizes, `number` says what should count."""

    name: str
    counted: str
    build: Callable[[int], nn.Module]
    sizes: tuple[int, int, int]
    number: Callable[[int], int] = int


ROWS = (
    Row("depth", "layers", scale_models.Deep, (200, 400, 800)),
    Row("residual stream", "layers", scale_models.Residual, (200, 400, 800)),
    Row("attention", "blocks", scale_models.Attentions, (12, 24, 48)),
    Row("concatenation", "segments", scale_models.Concatenation, (500, 1000, 2000)),
    Row("split", "segments", scale_models.Split, (500, 1000, 2000)),
    Row("dense block", "segments", scale_models.DenseBlock, (50, 100, 200), lambda n: n * (n + 3) // 2),
    Row("parameters", "parameters", scale_models.Wide, (1000, 2000, 4000), lambda n: 2 * n * (n + 9)),
    Row("group size", "slots", scale_models.Slots, (50_000, 100_000, 200_000)),
    Row("groups", "groups", scale_models.Branches, (200, 400, 800)),
)


def analyze(model: nn.Module, x: Tensor) -> None:
    engine.analyze(model, x)


def prune(model: nn.Module, x: Tensor) -> None:
    engine.prune(model, example_inputs=x, ratio=0.5)


JOBS: dict[str, Job] = {"analyze": analyze, "prune": prune}


def seconds(job: str, row: Row, size: int) -> float:
    """The CPU time of one job on a new model; the report is that of a graph that is there."""
    model, x = row.build(size).eval(), torch.randn(2, scale_models.WIDTH)
    work: Callable[[], object] = lambda: JOBS[job](model, x)  # noqa: E731
    if job == "report":
        graph = engine.analyze(model, x)
        work = lambda: page(graph)  # noqa: E731
    gc.collect()
    start = time.process_time()
    work()
    return time.process_time() - start


def slope(numbers: Sequence[float], times: Sequence[float]) -> float:
    """The exponent of the power of `numbers` that fits `times` best: a line through their logarithms."""
    xs, ys = ([math.log(one) for one in side] for side in (numbers, times))
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys)) / sum((a - x) ** 2 for a in xs)


def measured(row: Row, job: str, repeats: int) -> tuple[list[float], float]:
    """The least time at each size, and the exponent. The sizes take turns: all meet the same noise."""
    rounds = [[seconds(job, row, size) for size in row.sizes] for _ in range(repeats)]
    times = [min(those) for those in zip(*rounds)]
    return times, slope([row.number(size) for size in row.sizes], times)


def grow(rows: Sequence[Row], jobs: Sequence[str], repeats: int) -> None:
    """Print a line for each row and job as soon as it is measured."""
    print(f"CPU seconds, the least of {repeats}; torch {torch.__version__}")
    print(f"{'what grows':16}{'job':9}{'sizes':42}{'seconds':23}exponent")
    for row in rows:
        for job in jobs:
            seconds(job, row, row.sizes[0])  # what is done once, and the caches of the machine
            times, exponent = measured(row, job, repeats)
            numbers = f"{', '.join(f'{row.number(size):,}' for size in row.sizes)} {row.counted}"
            spent = "  ".join(f"{one:.2f}" for one in times)
            print(f"{row.name:16}{job:9}{numbers:42}{spent:23}{exponent:.2f}", flush=True)
    print(f"peak memory {peak():.2f} GB")


def analyze_llamas() -> None:
    """Analyse each depth once, after a small one to warm up."""
    inputs = {"input_ids": torch.zeros(1, 16, dtype=torch.long)}
    engine.analyze(scale_models.llama(1), inputs, fake=True)
    before = peak()
    first = None
    for layers in (20, 40, 80):
        model = scale_models.llama(layers)
        start = time.process_time()
        graph = engine.analyze(model, inputs, fake=True)
        spent, calls = time.process_time() - start, len(graph.trace.calls)
        first = first or (spent, calls)
        billions = sum(parameter.numel() for parameter in model.parameters()) / 1e9
        print(
            f"{layers:3} layers  {billions:5.1f} billion parameters  "
            f"{calls:5} calls ({calls / first[1]:.2f} x)  "
            f"{spent:5.2f} s ({spent / first[0]:.2f} x)  {len(graph.groups)} groups"
        )
    print(f"peak memory {peak():.2f} GB, of which {before:.2f} GB are the libraries")


def peak() -> float:
    """The most memory that this process has had, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [row.name for row in ROWS]
    parser.add_argument(
        "--rows", nargs="+", default=names, choices=names, metavar="ROW", help=", ".join(names)
    )
    parser.add_argument("--jobs", nargs="+", default=[*JOBS, "report"], choices=[*JOBS, "report"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--llama", action="store_true", help="a Llama of 70 billion parameters instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.llama:
        analyze_llamas()
    else:
        grow([row for row in ROWS if row.name in options.rows], options.jobs, options.repeats)


if __name__ == "__main__":
    main()
