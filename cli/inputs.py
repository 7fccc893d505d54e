"""What commands are given: models by name, example inputs by shape."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch

from ..adapters.folder import load_folder
from ..errors import PrunusError
from .modules import import_installed, import_named, of_the_user
from .output import working
from .parser import MODEL_HELP
from .weights import load_weights

_MOST_NUMBERS = 2**28  # of all inputs together: a gigabyte
_MOST_AXES = 32
_LONGEST = 1000  # characters of a name
_SIZE = re.compile(r"0*[1-9][0-9]{0,17}", re.ASCII)


def example_inputs(shapes: Sequence[str]) -> tuple[torch.Tensor, ...] | None:
    """One random tensor for each shape given; None lets the engine guess.

    Nothing is allocated before all of them are known to be shapes, and to be small enough together.
    """
    kinds = [_shape(text) for text in shapes]
    numbers = sum(prod(sizes) for _, sizes in kinds)
    if numbers > _MOST_NUMBERS:
        raise PrunusError(f"--input asks for {numbers:.2g} numbers; {_MOST_NUMBERS:,} are the most in all")
    return tuple(torch.randint(0, 2, sizes) if kind else torch.randn(sizes) for kind, sizes in kinds) or None


def _shape(text: str) -> tuple[str, list[int]]:
    """Kind and sizes of ``1x3x224x224`` (floats) or ``ints:2x16`` (tokens, which any vocabulary has)."""
    kind, _, sizes = text.rpartition(":")
    parts = sizes.split("x")
    if kind not in ("", "ints") or not all(_SIZE.fullmatch(part) for part in parts):
        raise PrunusError(f"--input {text!r} is not a shape; write 1x3x224x224, or ints:2x16 for tokens")
    if len(parts) > _MOST_AXES:
        raise PrunusError(f"--input has {len(parts)} axes; {_MOST_AXES} are the most")
    return kind, [int(part) for part in parts]


def load_model(name: str, weights: str | None = None) -> torch.nn.Module:
    """The model that MODEL names, with the weights of a file, or the same random ones every time.

    A module in the current directory is importable, so a model of one's own needs no installation. A folder
    of transformers has its own weights.
    """
    model = _model(name)
    if weights is not None:
        load_weights(model, weights)
    return model


def _model(name: str) -> torch.nn.Module:
    source, colon, wanted = name.partition(":")
    if not (source and colon and wanted) or len(name) > _LONGEST:
        raise PrunusError(f"{name!r} does not name a model; write {MODEL_HELP}")
    torch.manual_seed(0)
    if source in LIBRARIES:
        return LIBRARIES[source](wanted)
    return own_model(source, wanted)


def torchvision_model(name: str) -> torch.nn.Module:
    models = import_installed("torchvision.models")
    expect_known(name, models.list_models(), "torchvision")
    return build(f"torchvision:{name}", lambda: models.get_model(name, weights=None))


def timm_model(name: str) -> torch.nn.Module:
    timm = import_installed("timm")
    expect_known(name.partition(".")[0], timm.list_models(), "timm")
    return build(f"timm:{name}", lambda: timm.create_model(name, pretrained=False))


def folder_model(name: str) -> torch.nn.Module:
    """A model of transformers from a folder, or by its name on the hub, of the class that its config says."""
    import_installed("transformers")
    return build(f"hf:{name}", lambda: load_folder(name))


LIBRARIES = {"timm": timm_model, "torchvision": torchvision_model, "hf": folder_model}


def own_model(module_name: str, wanted: str) -> torch.nn.Module:
    """A module instance, or what a callable that returns one builds."""
    found: Any = import_named(module_name)
    for part in wanted.split("."):
        with of_the_user(f"looking up {module_name}:{wanted}"):
            if not hasattr(found, part):
                raise PrunusError(f"{module_name} has no {wanted!r}{did_you_mean(part, dir(found))}")
            found = getattr(found, part)
    if isinstance(found, torch.nn.Module):
        return found
    if not callable(found):
        raise PrunusError(f"{module_name}:{wanted} is neither a module nor a callable that returns one")
    return build(f"{module_name}:{wanted}", found)


def build(name: str, factory: Callable[[], Any]) -> torch.nn.Module:
    """The model that a factory returns."""
    with of_the_user(name), working(f"building {name} ..."):
        model = factory()
    if not isinstance(model, torch.nn.Module):
        raise PrunusError(f"{name} returned a {type(model).__name__}, not a torch.nn.Module")
    return model


def expect_known(name: str, known: Sequence[str], library: str) -> None:
    if name not in known:
        raise PrunusError(f"{library} has no model {name!r}{did_you_mean(name, known)}")


def did_you_mean(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
