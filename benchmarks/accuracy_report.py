"""The results of the accuracy benchmark as a table in Markdown and as a plot."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accuracy_records import Record, Records
from tasks import TASKS

# Dark enough on white, and told apart without colour vision.
LINES = {"prunus": ("#0072b2", "o"), "torch-pruning": ("#d55e00", "s")}
# What calibration data can do for each.
CORRECTED = {
    "prunus": {"compensate": "lstsq", "recalibrate": True},
    "torch-pruning": {"recalibrate": True},
}
STAGES = {
    "fine-tuned": ("after", "-", {}),
    "corrected": ("before", "--", CORRECTED),
    "just pruned": ("before", ":", {}),
}
NAMES = {"prunus": "prunus", "torch-pruning": "Torch-Pruning"}


def table(records: Records, target: float = 0.5) -> str:
    """Mean and standard deviation over the seeds, in percent, of every task and method at one target."""
    lines = [
        "| task | dense | method | MACs kept | pruned | fine-tuned | seeds |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    tested = [record for record in records if (record.case.split, record.case.target) == ("test", target)]
    for name, task in TASKS.items():
        of_task = [record for record in tested if record.case.task == name]
        dense = {record.case.seed: record.dense for record in of_task}
        first = [task.title, _percent(dense.values())]
        for label, method, setting in _rows(records, name, of_task):
            found = [r for r in of_task if (r.case.method, r.case.setting) == (method, setting)]
            cells = [*first, label, *_cells(found), str(len(found))]
            lines.append(f"| {' | '.join(cells)} |")
            first = ["", ""]
    return "\n".join(lines)


def _rows(records: Records, task: str, of_task: list[Record]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Label, method and setting of the rows of a task: the defaults, their variants, and the best."""
    rows: list[tuple[str, str, Mapping[str, Any]]] = []
    for method in NAMES:
        best = records.best(task, method)
        settings: list[Mapping[str, Any]] = [{}, {"heads": "whole"}]
        for setting in [*settings, best]:
            if setting is None or not any(
                (record.case.method, record.case.setting) == (method, setting) for record in of_task
            ):
                continue
            words = ["best:"] if setting is best else []
            words += [f"{name}={value}" for name, value in setting.items() if value]
            rows.append((" ".join([NAMES[method], *words]), method, setting))
    return rows


def _cells(found: list[Record]) -> list[str]:
    """MACs, accuracy before and after fine-tuning; or why there is none."""
    if all(record.cannot for record in found):
        return ["-", f"cannot ({found[0].cannot})", "-"]
    return [_percent([getattr(record, name) for record in found]) for name in ("macs", "before", "after")]


def _percent(values: Iterable[float | None]) -> str:
    known = [100 * value for value in values if value is not None]
    if not known:
        return "-"
    spread = f" ± {statistics.stdev(known):.1f}" if len(known) > 1 else ""
    return f"{statistics.mean(known):.1f}{spread}"


def plot(records: Records, tasks: Sequence[str], file: Path) -> None:
    """Accuracy against the fraction of MACs kept, one panel a task: the mean, and a band of one deviation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(tasks), 4), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        for method, (colour, marker) in LINES.items():
            for label, (stage, style, settings) in STAGES.items():
                x, mean, spread = _curve(records, name, method, stage, settings.get(method, {}))
                axes.plot(
                    x, mean, style, color=colour, marker=marker, ms=4, label=f"{NAMES[method]}, {label}"
                )
                low = [m - s for m, s in zip(mean, spread, strict=True)]
                high = [m + s for m, s in zip(mean, spread, strict=True)]
                axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        dense = {record.case.seed: record.dense for record in records if record.case.task == name}
        known = [100 * value for value in dense.values() if value is not None]
        if known:
            axes.axhline(statistics.mean(known), color="#555555", linewidth=0.8, label="dense")
        axes.set(
            title=TASKS[name].title,
            xlabel="MACs kept, %",
            ylabel="test accuracy, %",
            xlim=(0, 100),
            ylim=(0, 102),
        )
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize="small", loc="outside lower center", ncols=4)
    figure.savefig(file, dpi=150)


def _curve(
    records: Records, task: str, method: str, stage: str, setting: Mapping[str, Any]
) -> tuple[list[float], list[float], list[float]]:
    """For each target in order the mean MACs kept, the mean accuracy and its deviation, in percent."""
    points: dict[float, list[tuple[float, float]]] = {}
    for record in records:
        case = record.case
        accuracy = getattr(record, stage)
        if (
            (case.task, case.method, case.split) == (task, method, "test")
            and case.setting == setting
            and accuracy is not None
        ):
            points.setdefault(case.target, []).append((100 * (record.macs or 0.0), 100 * accuracy))
    columns = [list(zip(*points[target], strict=True)) for target in sorted(points)]
    spreads = [statistics.stdev(y) if len(y) > 1 else 0.0 for _, y in columns]
    return [statistics.mean(x) for x, _ in columns], [statistics.mean(y) for _, y in columns], spreads
