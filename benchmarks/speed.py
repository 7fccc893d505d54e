"""How long pruning takes: beyond what it takes at least, for each traced call, and next to Torch-Pruning.

For each model these are timed in turn, in one process, after one warm-up of each: an eager forward, the
*floor* (two forwards, and one ``norm`` and one ``clone`` of every parameter, which no way of pruning by
magnitude can do without), ``engine.analyze``, ``engine.prune`` (criterion, slicing and verification) and
Torch-Pruning (from construction to the end of ``step``). Every job gets its own fresh copy of the model;
copying is not timed. Differences and ratios are taken within each repetition, so that a change of the
machine's speed touches both of their sides; shown are medians.
"""

from __future__ import annotations

import argparse
import copy
import gc
import statistics
import time
import warnings
from collections.abc import Callable, Iterable

import torch
import torch_pruning as tp
from attrs import define, field
from prunus import engine
from rich import box
from rich.console import Console
from rich.table import Table
from stages import STAGES, Clock, timed
from torch import Tensor, nn
from torchvision.models import get_model

MODELS = ("resnet50", "densenet121", "vit_b_32", "efficientnet_b0", "convnext_tiny")
CLASSES = 1000

Job = Callable[[nn.Module, Tensor], object]


def forward(model: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        model(x)


def floor(model: nn.Module, x: Tensor) -> None:
    forward(model, x)
    forward(model, x)
    for parameter in model.parameters():
        parameter.detach().norm()
        parameter.detach().clone()


def analyze(model: nn.Module, x: Tensor) -> None:
    engine.analyze(model, x)


def prune(model: nn.Module, x: Tensor) -> None:
    engine.prune(model, example_inputs=x, ratio=0.5)


def torch_pruning(model: nn.Module, x: Tensor) -> None:
    """Half of every layer but the classifier, set up as in Torch-Pruning's own example for torchvision."""
    attentions = [module for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
    classifiers = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == CLASSES]
    pruner = tp.pruner.BasePruner(
        model,
        x,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=0.5,
        ignored_layers=classifiers + [attention.out_proj for attention in attentions],
        round_to=attentions[0].num_heads if attentions else None,
    )
    pruner.step()


JOBS: dict[str, Job] = {
    "forward": forward,
    "floor": floor,
    "analyze": analyze,
    "prune": prune,
    "Torch-Pruning": torch_pruning,
}


@define
class Times:
    """The times of one model in seconds, repetition by repetition, and the number of its traced calls."""

    name: str
    calls: int
    jobs: dict[str, list[float]] = field(factory=lambda: {job: [] for job in JOBS})
    shares: dict[str, list[float]] = field(factory=lambda: {stage: [] for stage in STAGES})

    def milliseconds(self, job: str) -> str:
        """The median of a job."""
        return f"{1000 * statistics.median(self.jobs[job]):.0f}"

    def a_call(self, job: str, least: str) -> str:
        """Milliseconds a traced call beyond what it takes at least."""
        beyond = (a - b for a, b in zip(self.jobs[job], self.jobs[least], strict=True))
        return f"{1000 * statistics.median(beyond) / self.calls:.2f}"

    def ratio(self, above: str, below: str) -> str:
        """How many times as long one job takes as another."""
        values = [a / b for a, b in zip(self.jobs[above], self.jobs[below], strict=True)]
        return "failed" if any(map(_is_nan, values)) else f"{statistics.median(values):.1f}"

    def share(self, stage: str) -> str:
        """What part of `prune` a stage is."""
        return f"{100 * statistics.median(self.shares[stage]):.0f} %"

    @property
    def rest(self) -> str:
        """What part of it no stage is."""
        rest = (1 - sum(shares) for shares in zip(*self.shares.values(), strict=True))
        return f"{100 * statistics.median(rest):.0f} %"


def _is_nan(number: float) -> bool:
    return number != number


def seconds(job: Job, model: nn.Module, x: Tensor, clock: Clock) -> float:
    """The time of one job on a copy of the model of its own; not a number if the job fails."""
    model = copy.deepcopy(model)
    gc.collect()  # what the job before has left is not this one's
    start = clock()
    try:
        job(model, x)
    except Exception as error:  # a tool that fails on a model is a result, not the end of the benchmark
        print(f"{job.__name__} failed: {type(error).__name__}: {error}")
        return float("nan")
    return clock() - start


def measure(name: str, repeats: int, clock: Clock) -> Times:
    """The times of every job on one model."""
    torch.manual_seed(0)
    model = get_model(name, weights=None).eval()
    x = torch.randn(1, 3, 224, 224)
    for job in JOBS.values():
        seconds(job, model, x, clock)
    times = Times(name, calls=len(engine.analyze(model, x).trace.calls))
    for _ in range(repeats):
        for job, function in JOBS.items():
            times.jobs[job].append(seconds(function, model, x, clock))
        with timed(clock) as spent:
            whole = seconds(prune, model, x, clock)
        for stage, part in spent.items():
            times.shares[stage].append(part / whole)
    return times


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """Rows of a name and numbers."""
    result = Table(box=box.SIMPLE_HEAD, title=title)
    for number, column in enumerate(columns):
        result.add_column(column, justify="right" if number else "left")
    for row in rows:
        result.add_row(*row)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="NAME", help="torchvision classifiers")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--cpu", action="store_true", help="the time of one CPU, where others use the machine (one thread)"
    )
    options = parser.parse_args()
    clock = time.thread_time if options.cpu else time.perf_counter
    torch.set_num_threads(1 if options.cpu else options.threads)
    warnings.simplefilter("ignore")  # Torch-Pruning warns about parameters that it finds by itself

    found = [measure(name, options.repeats, clock) for name in options.models]
    title = f"{options.repeats} repetitions, {torch.get_num_threads()} threads, torch {torch.__version__}"
    console = Console(width=None if Console().is_terminal else 130)
    console.print(
        table(
            f"milliseconds, in all, and for each call beyond the forward or the floor: {title}",
            [
                "model",
                *JOBS,
                "calls",
                "analyze, a call",
                "prune, a call",
                "Torch-Pruning / prune",
            ],
            (
                [
                    times.name,
                    *map(times.milliseconds, JOBS),
                    str(times.calls),
                    times.a_call("analyze", "forward"),
                    times.a_call("prune", "floor"),
                    times.ratio("Torch-Pruning", "prune"),
                ]
                for times in found
            ),
        )
    )
    console.print(
        table(
            "share of each stage in prune",
            ["model", *STAGES, "rest"],
            ([times.name, *map(times.share, STAGES), times.rest] for times in found),
        )
    )


if __name__ == "__main__":
    main()
