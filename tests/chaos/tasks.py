"""Some tries of one kind, as one of several processes runs them."""

from __future__ import annotations

from importlib import import_module
from time import monotonic

from .tally import Tally

Task = tuple[str, int, int]  # a kind, a seed, and how many tries


def run(task: Task, deadline: float) -> list[Tally]:
    """The tallies, or none if it is too late to start."""
    kind, seed, tries = task
    if monotonic() > deadline:
        return []
    import torch

    torch.set_num_threads(1)
    return import_module(f"chaos.{kind}").run(seed, tries)
