"""Do budgets land, and do prices agree with an independent count? On models of the zoo.

For every model: what `engine.cost` says of it against torch's FlopCounterMode, and what is left after one
call with ``macs=0.5`` and one with ``params=0.5``, counted on the pruned model by others than prunus.
"""

from __future__ import annotations

import argparse
import copy
import re
import sys
import warnings
from pathlib import Path

import torch
from prunus import PrunusError, engine
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import oracle
import zoo
from zoo_models import build


def flops(model: torch.nn.Module, inputs) -> int:
    """Multiply-accumulates of one forward; torch counts none in fused attention and recurrent layers."""
    torch.backends.mha.set_fastpath_enabled(False)
    with FlopCounterMode(display=False) as counter, torch.backends.mkldnn.flags(enabled=False):
        oracle.run(model, inputs)
    return counter.get_total_flops() // 2


def measure(kind: str, name: str, fraction: float) -> str:
    """One row: the price of the whole model over the independent count, and what is left of both budgets."""
    model, inputs = build(kind, name)
    counted = flops(model, inputs)
    cost = engine.cost(model, inputs)
    cells = [f"{cost.macs / counted:8.4f}" if counted else "       -"]
    for budget in ("macs", "params"):
        pruned = copy.deepcopy(model)
        try:
            result = engine.prune(pruned, example_inputs=inputs, **{budget: fraction})
        except PrunusError as error:
            cells.append(str(error)[:90])
            continue
        left = (
            flops(pruned, inputs) / counted
            if budget == "macs" and counted
            else zoo.parameters(pruned) / zoo.parameters(model)
        )
        said = any(note.startswith(f"{budget}:") for note in result.notes)
        cells.append(f"{left:7.4f}{' (said)' if said else ''}")
    return f"{kind + ' ' + name:50} " + "  ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", metavar="PATTERN", help="a regular expression")
    parser.add_argument("--keep", type=float, default=0.5, help="the fraction to keep")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"{'model':50} price/count  macs left  params left")
    for kind, name in zoo.rows():
        if re.search(options.only, f"{kind} {name}"):
            try:
                print(measure(kind, name, options.keep), flush=True)
            except Exception as error:
                print(f"{kind} {name} {type(error).__name__}: {error}"[:150])


if __name__ == "__main__":
    main()
