"""Where a pruned model is kept: a folder for a transformers model, else one file."""

from __future__ import annotations

import os
from typing import Any

from torch import nn

from ..errors import CheckpointError, shown
from ..files import PathLike, at_home
from . import checkpoint
from .folder import Saved, is_folder_for, load_folder, save_folder
from .plan import Plan, expect_plan


def save(path: PathLike, model: nn.Module, plan: Plan, **folder: Any) -> Saved | None:
    """Write `model`, on which `plan` has been carried out.

    A transformers model goes to a folder that ``from_pretrained`` loads, see `folder.save_folder`, unless
    `path` ends in ``.safetensors``; any other model to one safetensors file.

    Parameters
    ----------
    path : where to; a file that is there is replaced, also where a link leads to it, with its permissions,
        and a folder if it is empty or prunus wrote it.
    model : the pruned model; it is not changed.
    plan : from the model as it was at first to this one: after several prunings that is
        ``first.followed_by(second)``.
    folder : ``tokenizer``, ``max_shard_size``, for a folder.

    Returns
    -------
    What the folder is, plain or shaped; ``None`` for a file.

    Raises
    ------
    PlanError
        `plan` is none.
    CheckpointError
        The model is not what the plan makes, it has state that cannot be kept, or it cannot be written there.
    """
    expect_plan(plan)
    if is_folder_for(path, model):
        return save_folder(path, model, plan, **folder)
    if folder:
        raise CheckpointError(
            f"{', '.join(folder)}: for a folder of a transformers model, and this is a file"
        )
    checkpoint.save(path, model, plan)
    return None


def load(path: PathLike, model: nn.Module | None = None) -> nn.Module:
    """The model that was saved at `path`, bit for bit.

    Nothing is traced, and no code comes out of a file: only values, and sizes of the model. Of a file they
    go into `model`, in place: parameters stay the same objects, so that optimizers and ties keep them, with
    their ``requires_grad``; their gradients are dropped. The values come to the device of the tensors that
    they replace, in the dtype and memory format that they were saved in. A folder needs no model.

    Parameters
    ----------
    path : what `save` wrote; or any folder of transformers.
    model : for a file, a model of the class and configuration of the one that was pruned, not pruned itself.

    Raises
    ------
    CheckpointError
        The file or folder is missing, damaged, or none of these, or `model` is another one; it is left as it
        was.
    """
    is_folder = isinstance(path, (str, os.PathLike)) and os.path.isdir(at_home(path))
    if model is not None and not is_folder:
        return checkpoint.load(path, model)
    if model is not None:
        raise CheckpointError(f"{shown(path)} is a folder, which tells the model itself: load(path) alone")
    if not is_folder:
        raise CheckpointError(
            f"there is no folder {shown(path)}; a file needs a fresh model: load(path, model)"
        )
    return load_folder(path)
