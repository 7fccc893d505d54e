"""Loads a folder of transformers, pruned or not, and tells what is amiss in it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ...errors import CheckpointError, shown
from ...files import PathLike, at_home
from .beside import FILES
from .plugin import register
from .same import first_line, quiet

# With which ``from_pretrained`` tells what is amiss, to be looked at here.
LOADING = {"output_loading_info": True, "ignore_mismatched_sizes": True}


def load_folder(path: PathLike) -> nn.Module:
    """The model in a folder that ``save_pretrained`` wrote, shaped or not, in the dtype it was saved in.

    Raises `CheckpointError` if there is none, it cannot be loaded, or its files lack tensors of the model;
    or have more, if prunus wrote them. Of anybody else's, which may be for several classes, a warning tells.
    """
    register()
    place = at_home(path)
    try:
        with quiet():  # what it would report is looked at here
            model, found = class_in(path).from_pretrained(place, dtype="auto", **LOADING)
        check_loaded(path, found)
        return model
    except CheckpointError:
        raise
    except Exception as error:  # of files that anybody may have written
        why = first_line(error)
        if not os.path.isdir(place):
            why = f"there is no such folder, and {why}"
        raise CheckpointError(f"cannot load {shown(path)}: {why}") from error


def class_in(path: PathLike) -> Any:
    """The class of transformers that the config of a folder names."""
    import transformers  # whoever asks for a folder has it

    names = transformers.AutoConfig.from_pretrained(at_home(path)).architectures or ()
    named: list[Any] = [getattr(transformers, name, None) for name in names]
    kinds: list[Any] = [kind for kind in named if isinstance(kind, type) and issubclass(kind, nn.Module)]
    if not kinds:
        raise CheckpointError(f"{shown(path)} names no class of transformers that could be built")
    return kinds[0]


def check_loaded(path: PathLike, found: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` if tensors are missing or, in a folder of prunus, too many; of others, warn."""
    _check_complete(path, found)
    _check_nothing_more(path, (Path(at_home(path)) / FILES).exists(), found)


def _check_complete(path: PathLike, found: Mapping[str, Any]) -> None:
    """Raise `CheckpointError` for tensors that the files lack, or have otherwise: they would be random."""
    told = [f"it has no {name}" for name in sorted(found["missing_keys"])]
    told += [
        f"{name} is of {tuple(here)} in it, and of {tuple(wanted)} by its config"
        for name, here, wanted in sorted(found["mismatched_keys"])
    ]
    if told:
        more = f" and {len(told) - 1} more" if len(told) > 1 else ""
        raise CheckpointError(
            f"{shown(path)} does not have the weights that its config asks for: {told[0]}{more}; "
            "copy or save it again"
        )


def _check_nothing_more(path: PathLike, is_ours: bool, found: Mapping[str, Any]) -> None:
    """Tell of tensors in the files that the model does not have: its config makes another one, perhaps."""
    names = sorted(found["unexpected_keys"])
    if not names:
        return
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    told = f"{shown(path)} has {shown(names[0])}{more}, which the model that its config makes does not have"
    if is_ours:
        raise CheckpointError(f"{told}; copy or save it again")
    warnings.warn(told, stacklevel=5)
