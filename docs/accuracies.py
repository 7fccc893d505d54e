"""What docs/accuracy.md shows of the results in docs/accuracy.jsonl."""

from __future__ import annotations

import sys

from console import ROOT

sys.path.append(str(ROOT / "benchmarks"))  # its scripts import each other by their bare names
from accuracy_records import Records
from accuracy_report import table


def results() -> str:
    """The table of all tasks and methods."""
    return table(Records(ROOT / "docs" / "accuracy.jsonl"))


PARTS = {"results": results}
