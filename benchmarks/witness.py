"""What the further traces cost: their share of the time of `prune`, and `analyze` with one over one without.

``python benchmarks/witness.py`` runs both in turn in one process, several times, and prints medians.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import prunus.engine.derive as derive
import torch
from prunus import engine

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from zoo_models import build

MODELS = [
    *("torchvision resnet18", "torchvision resnet50", "torchvision densenet121", "torchvision vit_b_32"),
    *("torchvision swin_t", "timm convit_tiny", "timm edgenext_xx_small", "transformers BertModel"),
    *("transformers LlamaForCausalLM", "transformers MixtralForCausalLM"),
]


def seconds(run: Callable[[], Any]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


TRACES = ("findings", "findings_at")  # with few slots of all groups, and at the sizes of the plan


def measure(kind: str, name: str, repeats: int) -> tuple[float, float]:
    """The share of `prune` that the further traces take, and `analyze` with one over `analyze` without."""
    model, inputs = build(kind, name)
    testify = {one: getattr(derive, one) for one in TRACES}
    inside: list[float] = []

    def timed(one: str) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            found: list[Any] = []
            inside.append(seconds(lambda: found.extend(testify[one](*given))))
            return found

        return run

    def use(functions: dict[str, Callable[..., Any]]) -> None:
        for one, function in functions.items():
            setattr(derive, one, function)

    shares, ratios = [], []
    try:
        for _ in range(repeats + 1):
            use({one: timed(one) for one in TRACES})
            inside.clear()
            victim = copy.deepcopy(model)
            whole = seconds(lambda victim=victim: engine.prune(victim, example_inputs=inputs))
            shares.append(sum(inside) / whole)
            use(testify)
            both = seconds(lambda: engine.analyze(model, inputs))
            use({"findings": lambda *given: []})
            ratios.append(both / seconds(lambda: engine.analyze(model, inputs)))
    finally:
        use(testify)
    return statistics.median(shares[1:]), statistics.median(ratios[1:])  # the first one warms up


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"{'model':34}  share of prune  analyze with / without")
    shares = []
    for row in MODELS:
        share, ratio = measure(*row.split(), options.repeats)
        shares.append(share)
        print(f"{row:34}  {share:14.0%}  {ratio:22.2f}", flush=True)
    print(f"{'median':34}  {statistics.median(shares):14.0%}")


if __name__ == "__main__":
    main()
