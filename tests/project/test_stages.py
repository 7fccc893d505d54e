"""The benchmark times functions by their names: they are there, and each is called by a prune."""

import sys
import time
from pathlib import Path

import torch
from prunus import engine
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from stages import timed


def test_a_prune_spends_time_in_every_stage():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with timed(time.perf_counter) as spent:
        engine.prune(model, example_inputs=torch.randn(2, 4))
    assert not [stage for stage, seconds in spent.items() if stage != "witness" and seconds <= 0]
