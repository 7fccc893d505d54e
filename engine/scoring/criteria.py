"""Criteria score the slots of a group: higher is kept. Own criteria are callables of the same form.

A criterion is called as ``criterion(group, tensors)`` where ``tensors`` are the model's, by name and slot by
slot (`slot_tensors.Tensors`), and returns a float tensor of shape ``(group.size,)``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ...adapters.inputs import is_language_model
from ...errors import PlanError
from ..grouping import Group
from .activations import flap, variance, wanda
from .expressed import leverage, obs
from .gradients import fisher, taylor
from .magnitude import Magnitude, bn_scale, fpgm, lamp
from .slot_tensors import Tensors

Criterion = Callable[[Group, Tensors], Tensor]


class Random:
    """Random scores, from a generator of its own with a fixed seed: a baseline."""

    def __init__(self, seed: int = 0):
        self._generator = torch.Generator("cpu").manual_seed(seed)

    def __call__(self, group: Group, tensors: Tensors) -> Tensor:
        return torch.rand(group.size, generator=self._generator, device="cpu")


# How each is made for one choice; those that need nothing of their own are functions.
CRITERIA: dict[str, Callable[[], Criterion]] = {
    "magnitude": Magnitude,
    "l1": partial(Magnitude, power=1),
    "bn_scale": lambda: bn_scale,
    "lamp": lambda: lamp,
    "fpgm": lambda: fpgm,
    "taylor": lambda: taylor,
    "fisher": lambda: fisher,
    "wanda": lambda: wanda,
    "flap": lambda: flap,
    "variance": lambda: variance,
    "obs": lambda: obs,
    "leverage": lambda: leverage,
    "random": Random,
}

# Those that cannot do without data, and with them those that look at gradients.
CALIBRATED = (wanda, flap, variance, obs, leverage)
READING = (*CALIBRATED, taylor, fisher)


def default_criterion(model: nn.Module, data: object, corrects: bool) -> str:
    """What ranks best: the magnitude, or in language models, by far, weights and what data say of them.

    Where what reads the slots is corrected by least squares, those go best that the others can express.
    """
    if data is None or not is_language_model(model):
        return "magnitude"
    return "obs" if corrects else "wanda"


def check_needs_no_data(given: str | Criterion) -> None:
    """Raise `PlanError` for a criterion that looks at more than weights."""
    criterion = criterion_of(given)
    if criterion in READING:
        names = [name for name, make in CRITERIA.items() if make() not in READING]
        raise PlanError(
            f"the criterion {given!r} needs data, and a checkpoint is pruned without; "
            f"{', '.join(names)} do not"
        )


def criterion_of(given: str | Criterion) -> Criterion:
    """A criterion by name, or the callable itself; raises `PlanError` for an unknown name."""
    if callable(given):
        return given
    if given not in CRITERIA:
        raise PlanError(
            f"there is no criterion {given!r}; known are {', '.join(CRITERIA)}, or pass a callable"
        )
    return CRITERIA[given]()
