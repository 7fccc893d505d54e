"""What was measured: a line of JSON for each pruned model, added as it comes, so a run can be resumed."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from attrs import asdict, evolve, field, frozen


@frozen
class Case:
    """One model to prune: `target` is the fraction of multiply-accumulates to keep."""

    task: str
    seed: int
    method: str
    setting: Mapping[str, Any] = field(factory=dict)
    target: float = 0.5
    split: str = "test"


@frozen
class Record:
    """What came of it: the fraction kept, accuracies, or in a few words why there are none."""

    case: Case
    dense: float | None = None
    macs: float | None = None
    before: float | None = None
    after: float | None = None
    cannot: str = ""


class Records:
    """All records of a file, which grows with every `add`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        lines = file.read_text().splitlines() if file.exists() else []
        self._records = [_read(line) for line in lines]

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def get(self, case: Case) -> Record | None:
        return next((record for record in self._records if record.case == case), None)

    def add(self, record: Record) -> None:
        self._records.append(record)
        with self.file.open("a") as file:
            file.write(_written(record))

    def forget(self, method: str, tasks: Collection[str]) -> None:
        """Drop the records of a method on some tasks, to measure them again."""
        self._records = [
            record
            for record in self._records
            if record.case.method != method or record.case.task not in tasks
        ]
        self.file.write_text("".join(map(_written, self._records)))

    def ranked(self, task: str, method: str) -> list[Mapping[str, Any]]:
        """The settings tried on validation data, best first: by the mean accuracy before fine-tuning."""
        found: dict[str, list[Record]] = {}
        for record in self._records:
            case = record.case
            tried = (case.task, case.method, case.split) == (task, method, "validation")
            if tried and record.before is not None:
                found.setdefault(json.dumps(case.setting, sort_keys=True), []).append(record)
        order = sorted(found.values(), key=lambda those: -mean(record.before or 0.0 for record in those))
        return [those[0].case.setting for those in order]

    def best(self, task: str, method: str) -> Mapping[str, Any] | None:
        """The first of those; `None` if nothing was tried."""
        return next(iter(self.ranked(task, method)), None)


def _read(line: str) -> Record:
    fields = json.loads(line)
    case = Case(**{name: fields.pop(name) for name in Case.__annotations__})
    return Record(case, **fields)


def _written(record: Record) -> str:
    rounded = {
        name: round(value, 5)
        for name in ("dense", "macs", "before", "after")
        if (value := getattr(record, name)) is not None
    }
    fields = asdict(evolve(record, **rounded))
    return json.dumps({**fields.pop("case"), **fields}) + "\n"
