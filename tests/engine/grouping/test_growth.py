"""Twice the model is about twice the work: Python functions that are entered are counted, not seconds."""

import sys
from pathlib import Path

import pytest
import torch
from prunus import engine
from prunus.report import page

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
import scale_models

# What grows, its models, and how often there is what counts at twice the size.
ROWS = {
    "depth": (scale_models.Deep, 20, 2.0),
    "residual": (scale_models.Residual, 20, 2.0),
    "attention": (scale_models.Attentions, 3, 2.0),
    "concatenation": (scale_models.Concatenation, 40, 2.0),
    "split": (scale_models.Split, 40, 2.0),
    "dense block": (scale_models.DenseBlock, 12, 3.6),
    "groups": (scale_models.Branches, 20, 2.0),
    "group size": (scale_models.Slots, 500, 1.0),
}


def entered(work) -> int:
    """How many Python functions are entered."""
    count = 0

    def note(frame, event, argument):
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def calls(job, kind, size) -> int:
    """Those of a job on a model of that size."""
    model, x = kind(size).eval(), torch.randn(2, scale_models.WIDTH)
    if job == "analyze":
        return entered(lambda: engine.analyze(model, x))
    if job == "prune":
        return entered(lambda: engine.prune(model, example_inputs=x, ratio=0.5))
    graph = engine.analyze(model, x)
    return entered(lambda: page(graph))


@pytest.mark.parametrize("job", ["analyze", "prune", "report"])
@pytest.mark.parametrize("row", ROWS)
def test_work_grows_in_proportion(row, job):
    """With what the row counts, to the power of 1.3 at most."""
    kind, size, times = ROWS[row]
    calls(job, kind, 2)  # what is done once
    first, second = calls(job, kind, size), calls(job, kind, 2 * size)
    assert second <= first * times**1.3 * 1.02
