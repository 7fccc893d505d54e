"""How accurate pruned models are: prunus next to Torch-Pruning, on real data, at equal multiply-accumulates.

For every task and seed a model is trained once and pruned by each method. prunus is called as
``engine.prune(model, macs=0.5)``; Torch-Pruning ranks by the same criterion, and its one ratio is found by
bisection so that the model costs the same (torch's own counter for both). Accuracy is measured right after
pruning, and after fine-tuning, which is the same for all. Nothing is recalibrated or corrected, unless the
setting says so.

``--best`` looks for the best setting of each method: on validation data, before fine-tuning, first among
scopes and criteria, then the three best criteria with corrections. Batch norms are recalibrated for both.
What was chosen is then tested on all seeds.

Without any of ``--compare --curves --best --table --plot`` all of it is done. Results are added to a file as
they come; what is in it is not measured again.
"""

from __future__ import annotations

import argparse
import inspect
import warnings
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import accuracy_report
import peer
import torch
from accuracy_records import Case, Record, Records
from prunus import PrunusError, engine
from prunus.engine.scoring.criteria import CRITERIA as KNOWN
from task_data import Inputs
from tasks import TASKS, Task, accuracy, calibration, dense, macs, tune
from torch import Tensor, nn
from torch.nn import functional as F

HERE = Path(__file__).parent
CURVE = ("digits", "mnist")
FRACTIONS = (0.8, 0.65, 0.5, 0.35, 0.2)
ATTENTION = ("vit", "minilm")

# Without it, half of these models' channels leave accuracies near chance, which tell no setting from another.
# It is no option of prune: engine.recalibrate is called on the pruned model, whoever pruned it.
RECALIBRATED = ("digits", "mnist")

SCOPES = ("local", "global", "isomorphic")
GRADIENTS = ("taylor", "fisher")
CRITERIA = ["magnitude", "l1", "lamp", "fpgm", "bn_scale", "taylor", "fisher", "wanda", "flap", "variance"]
RANKINGS = [{"criterion": criterion, "scope": scope} for criterion, scope in product(CRITERIA, SCOPES)]
CORRECTIONS = [{"compensate": "mean"}, {"compensate": "lstsq"}]
FINALISTS = 3
# The seeds whose validation data choose: three, but one where that would take hours.
CHOOSING = {"minilm": (0,)}
HEADS = ("inside", "whole")


class Unknown(Exception):
    """This version of prunus does not know the setting."""


class Bench:
    """Measures cases that have not been measured yet."""

    def __init__(self, records: Records, models: Path) -> None:
        self.records = records
        self._models = models
        self._dense = cache(self._measure_dense)

    def measure(self, case: Case, *, tuned: bool = True) -> Record | None:
        """The record of `case`, perhaps of an earlier run; None if this prunus does not know the setting."""
        if known := self.records.get(case):
            return known
        task = TASKS[case.task]
        split = getattr(task.load(), case.split)
        model = dense(task, case.seed, self._models)
        whole, before_pruning = self._dense(case.task, case.seed, case.split)
        try:
            model = self._pruned(case, task, model, whole)
            kept = macs(model, split.example()) / whole
            before = accuracy(model, split)
            if tuned:
                tune(task, model, case.seed)
            after = accuracy(model, split) if tuned else None
            record = Record(case, before_pruning, kept, before, after)
        except Unknown as unknown:
            print(f"left out: {unknown}", flush=True)
            return None
        except Exception as error:  # that a method cannot do a task is a result, not the end of the benchmark
            if case.method == "prunus" and not isinstance(error, PrunusError):
                raise
            words = " ".join(str(error).split())[:160]
            record = Record(case, before_pruning, cannot=f"{type(error).__name__}: {words}")
        self.records.add(record)
        print(record, flush=True)
        return record

    def _pruned(self, case: Case, task: Task, model: nn.Module, whole: int) -> nn.Module:
        inputs, options = task.load().test.example(), dict(case.setting)
        recalibrate = options.pop("recalibrate", False)
        if case.method == "prunus":
            model = prune(task, model, inputs, case.target, options)
        else:
            ours = self.measure(Case(case.task, case.seed, "prunus", {}, case.target))
            wanted = case.target if ours is None or ours.macs is None else ours.macs
            model = peer.prune_to(model, inputs, round(wanted * whole), **options)
        if recalibrate:
            engine.recalibrate(model, [inputs for inputs, _ in calibration(task)])
        return model

    def _measure_dense(self, name: str, seed: int, split: str) -> tuple[int, float]:
        task = TASKS[name]
        model = dense(task, seed, self._models)
        return macs(model, task.load().test.example()), accuracy(model, getattr(task.load(), split))


def prune(
    task: Task, model: nn.Module, inputs: Inputs, target: float, options: Mapping[str, Any]
) -> nn.Module:
    """prunus with `options`, which are empty for its defaults."""
    unknown = options.keys() - inspect.signature(engine.prune).parameters.keys()
    if unknown or options.get("criterion", "magnitude") not in KNOWN:
        raise Unknown(options)
    batches = calibration(task)
    needs: dict[str, Any] = {}
    if options.get("criterion") in GRADIENTS:
        needs = {"data": batches, "loss": _loss}
    elif options:
        needs = {"data": [inputs for inputs, _ in batches]}
    engine.prune(model, example_inputs=inputs, macs=target, **needs, **options)
    return model


def _loss(model: nn.Module, batch: tuple[Inputs, Tensor]) -> Tensor:
    inputs, labels = batch
    return F.cross_entropy(model(*inputs), labels)


def compare(bench: Bench, name: str, seeds: Iterable[int], targets: Iterable[float]) -> None:
    """prunus and Torch-Pruning with their defaults; the latter also with whole heads, as prunus does."""
    for seed, target in product(seeds, targets):
        bench.measure(Case(name, seed, "prunus", {}, target))
        bench.measure(Case(name, seed, "torch-pruning", {}, target))
        if name in ATTENTION:
            bench.measure(Case(name, seed, "torch-pruning", {"heads": "whole"}, target))


def compare_corrected(bench: Bench, name: str, seeds: Iterable[int]) -> None:
    """What calibration data can do without fine-tuning: prunus corrects weights, both have batch norms."""
    for seed, target in product(seeds, FRACTIONS):
        for method, setting in accuracy_report.CORRECTED.items():
            bench.measure(Case(name, seed, method, setting, target), tuned=False)


def best(bench: Bench, name: str, seeds: list[int]) -> None:
    """Choose each method's setting on the validation data of some seeds, and test it on all."""

    def tried(method: str, settings: list[dict[str, Any]]) -> list[Mapping[str, Any]]:
        for setting, seed in product(settings, CHOOSING.get(name, (0, 1, 2))):
            bench.measure(Case(name, seed, method, setting, split="validation"), tuned=False)
        return bench.records.ranked(name, method)

    always = {"recalibrate": True} if name in RECALIBRATED else {}
    ranked = tried("prunus", [ranking | always for ranking in RANKINGS])
    firsts = {setting["criterion"]: setting for setting in reversed(ranked)}
    finalists = sorted(firsts.values(), key=ranked.index)[:FINALISTS]
    tried("prunus", [{**setting, **more} for setting, more in product(finalists, CORRECTIONS)])
    heads = HEADS if name in ATTENTION else HEADS[:1]
    tried("torch-pruning", [{"scope": s, "heads": h} | always for s, h in product(SCOPES, heads)])
    for method, seed in product(("prunus", "torch-pruning"), seeds):
        setting = bench.records.best(name, method)
        if setting is not None:
            bench.measure(Case(name, seed, method, setting))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="TASK", help=", ".join(TASKS))
    add("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    add("--macs", nargs="+", type=float, default=[0.5], help="fractions to keep in --compare")
    add("--compare", action="store_true", help="both methods with their defaults")
    add("--curves", action="store_true", help=f"the same at {FRACTIONS} for {', '.join(CURVE)}")
    add("--best", action="store_true", help="choose the best settings, and test them")
    add("--table", action="store_true", help="print the means and standard deviations in Markdown")
    add("--plot", nargs="?", type=Path, const=HERE.parent / "docs/accuracy.png", help="draw the curves")
    add("--results", type=Path, default=HERE.parent / "docs/accuracy.jsonl")
    add("--cache", type=Path, default=HERE / ".cache", help="where trained models are kept")
    add("--again", choices=("prunus", "torch-pruning"), help="forget its results of these tasks first")
    options = parser.parse_args()
    everything = not (options.compare or options.curves or options.best or options.table or options.plot)
    warnings.simplefilter("ignore")  # Torch-Pruning's about parameters, torch's about its own settings
    torch.set_num_threads(1)  # so that results do not depend on the machine's cores

    records = Records(options.results)
    if options.again:
        records.forget(options.again, options.tasks)
    bench = Bench(records, options.cache)
    for name in options.tasks:
        if options.compare or everything:
            compare(bench, name, options.seeds, options.macs)
        if (options.curves or everything) and name in CURVE:
            compare(bench, name, options.seeds, FRACTIONS)
            compare_corrected(bench, name, options.seeds)
        if options.best or everything:
            best(bench, name, options.seeds)
    if options.table or everything:
        print(accuracy_report.table(records))
    if options.plot or everything:
        accuracy_report.plot(records, CURVE, options.plot or HERE.parent / "docs/accuracy.png")


if __name__ == "__main__":
    main()
