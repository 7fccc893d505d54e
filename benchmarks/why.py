"""How long `graph.why` takes on models of ten thousand calls, once they are analysed.

``python benchmarks/why.py [--calls 10000] [--rounds 5]`` prints medians in milliseconds: of the first answer
after an analysis, and of the same question asked again. An answer includes its text. One model is a single
residual stream, so that one atom passes through every block; in the other, a chain, every layer has its own.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from prunus import engine
from torch import Tensor, nn


class Stream(nn.Module):
    """Blocks of four calls, each of which adds to the same slots."""

    def __init__(self, calls: int, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Linear(3, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(calls // 4))
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x.relu()).tanh()
        return self.head(x)


class Chain(nn.Module):
    """A layer and an activation, again and again."""

    def __init__(self, calls: int, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(calls // 2))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x).relu()
        return x


def questions(calls: int) -> dict[str, tuple[type[nn.Module], Tensor, tuple[str, ...]]]:
    """What is asked of which model."""
    stream, chain = (Stream, torch.randn(2, 3)), (Chain, torch.randn(2, 4))
    first, last = "blocks.0", f"blocks.{calls // 4 - 1}"
    return {
        "stream, coupled, from end to end": (*stream, (first, last)),
        "stream, coupled, neighbours": (*stream, (first, "blocks.1")),
        "stream, not coupled": (*stream, (first, "head.bias")),
        "stream, one layer": (*stream, (first,)),
        "chain, coupled": (*chain, ("layers.0", "layers.1")),
        "chain, not coupled, from end to end": (*chain, ("layers.0", f"layers.{calls // 2 - 1}")),
        "chain, one layer": (*chain, ("layers.0",)),
    }


def milliseconds(graph: engine.DependencyGraph, names: tuple[str, ...]) -> float:
    """The time of one answer with its text."""
    start = time.perf_counter()
    str(graph.why(*names))
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'':36} {'calls':>6} {'first':>8} {'again':>8}   median ms of {options.rounds}")
    for what, (model, x, names) in questions(options.calls).items():
        first, again = [], []
        for _ in range(options.rounds):
            graph = engine.analyze(model(options.calls), x)
            first.append(milliseconds(graph, names))
            again.append(milliseconds(graph, names))
        medians = statistics.median(first), statistics.median(again)
        print(f"{what:36} {len(graph.trace.calls):6} {medians[0]:8.1f} {medians[1]:8.1f}")


if __name__ == "__main__":
    main()
