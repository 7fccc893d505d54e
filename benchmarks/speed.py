"""How long pruning takes, measured in forward passes, next to Torch-Pruning.

For each model one eager forward, ``engine.analyze``, ``engine.prune`` (criterion, slicing and verification)
and Torch-Pruning (from construction to the end of ``step``) are timed in turn, in one process, after one
warm-up of each. Every job gets its own fresh copy of the model; copying is not timed. A ratio is taken within
each repetition, so that a change of the machine's speed touches both of its sides; shown are the median and
the range.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
import warnings
from collections.abc import Callable

import torch
import torch_pruning as tp
from prunus import engine
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchvision.models import get_model

MODELS = ("resnet50", "densenet121", "vit_b_32", "efficientnet_b0", "convnext_tiny")
CLASSES = 1000

Job = Callable[[nn.Module, Tensor], object]


def forward(model: nn.Module, x: Tensor) -> None:
    with torch.no_grad():
        model(x)


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
    "analyze": analyze,
    "prune": prune,
    "Torch-Pruning": torch_pruning,
}


def seconds(job: Job, model: nn.Module, x: Tensor) -> float:
    """The time of one job on a copy of the model of its own; not a number if the job fails."""
    model = copy.deepcopy(model)
    start = time.perf_counter()
    try:
        job(model, x)
    except Exception as error:  # a tool that fails on a model is a result, not the end of the benchmark
        print(f"{job.__name__} failed: {type(error).__name__}: {error}")
        return float("nan")
    return time.perf_counter() - start


def measure(name: str, repeats: int) -> dict[str, list[float]]:
    """The times of every job on one model, repetition by repetition."""
    torch.manual_seed(0)
    model = get_model(name, weights=None).eval()
    x = torch.randn(1, 3, 224, 224)
    rounds = [{job: seconds(JOBS[job], model, x) for job in JOBS} for _ in range(repeats + 1)]
    return {job: [times[job] for times in rounds[1:]] for job in JOBS}


def ratios(times: dict[str, list[float]], above: str, below: str) -> str:
    """The median of the ratios of two jobs and their range."""
    values = [a / b for a, b in zip(times[above], times[below], strict=True)]
    if any(value != value for value in values):
        return "failed"
    return f"{statistics.median(values):.1f} ({min(values):.1f} .. {max(values):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="NAME", help="torchvision classifiers")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")  # Torch-Pruning warns about parameters that it finds by itself

    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{options.repeats} repetitions, {options.threads} threads, torch {torch.__version__}",
        caption="median (range)",
    )
    for column in ("model", "forward, ms", "analyze / forward", "prune / forward"):
        table.add_column(column, justify="left" if column == "model" else "right")
    table.add_column("Torch-Pruning / forward", justify="right")
    table.add_column("Torch-Pruning / prune", justify="right")
    for name in options.models:
        times = measure(name, options.repeats)
        table.add_row(
            name,
            f"{1000 * statistics.median(times['forward']):.0f}",
            ratios(times, "analyze", "forward"),
            ratios(times, "prune", "forward"),
            ratios(times, "Torch-Pruning", "forward"),
            ratios(times, "Torch-Pruning", "prune"),
        )
    Console(width=None if Console().is_terminal else 130).print(table)


if __name__ == "__main__":
    main()
