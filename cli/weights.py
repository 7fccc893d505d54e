"""Weights from files, for a model that is built without them: values only, never pickled code."""

from __future__ import annotations

import pickle
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..errors import PrunusError, shown
from ..files import expect_regular

_INSIDE = ("state_dict", "model")  # where checkpoints of trainers have them


def load_weights(model: torch.nn.Module, path: str) -> None:
    """Load a file of safetensors, or a state dict that torch has saved, into a model that has just these."""
    place = expect_regular(path)
    try:
        state: Any = (
            load_file(place) if place.suffix == ".safetensors" else torch.load(place, weights_only=True)
        )
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        why = str(error).splitlines()[0]
        raise PrunusError(f"{shown(path)} holds no weights that are safe to load: {why}") from error
    for name in _INSIDE:
        state = state[name] if isinstance(state, dict) and isinstance(state.get(name), dict) else state
    if not isinstance(state, dict):
        raise PrunusError(f"{shown(path)} holds a {type(state).__name__}, and no state dict")
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise PrunusError(
            f"{shown(path)} has not the weights of this model: {' '.join(lines[1:3])}"
        ) from error
