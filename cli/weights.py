"""Weights from files, for a model that is built without them: values only, never pickled code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from ..adapters.checkpoint import load
from ..errors import PrunusError, shown
from ..files import expect_regular

_INSIDE = ("state_dict", "model")  # where checkpoints of trainers have them


def _is_pruned(place: Path) -> bool:
    with safe_open(place, framework="pt") as file:
        return (file.metadata() or {}).get("format") == "prunus"


def load_weights(model: torch.nn.Module, path: str) -> None:
    """Load what prunus has saved, other safetensors, or a state dict of torch into the model."""
    place = expect_regular(path)
    try:
        if place.suffix == ".safetensors" and _is_pruned(place):
            load(place, model)
            return
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
