"""Saves a pruned checkpoint as a folder: each tensor is read, sliced and written by itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ... import __version__
from ...errors import CheckpointError, PlanError, shown
from ...files import PathLike
from ..folder import Saved, is_ours
from ..folder.beside import save_tokenizer
from ..folder.folder import write_beside, write_config
from ..folder.same import first_line, quiet
from ..folder.solve import lasting_tensors
from ..plan import Plan
from ..scales import multiplied
from ..submodules import parameters_of
from ..tensors import Indices, named_tensors, sliced
from .model import Values, on_disk, on_meta, saved_names
from .resume import resumed_folder
from .shards import Shard, ShardFile, shards_of, write_index
from .stored import Stored

# Told of what is being done ("reading", "writing"), of the tensors that are done, and of how many there are.
Progress = Callable[[str, int, int], None]


@torch.no_grad()
def save_streamed(
    path: PathLike,
    model: Any,
    plan: Plan,
    values: Values,
    stored: Stored,
    *,
    shapes_of: Callable[[nn.Module], Any],
    read: Iterable[str],
    shard_size: int | str,
    facts: Sequence[str],
    progress: Progress,
) -> Saved:
    """Write the checkpoint of `model`, on the meta device, on which `plan` has been carried out.

    `values` are those of the model before; `shapes_of` gives the shapes of a model's outputs. The other
    parameters are those of `folder.save_folder`, and so is what is written.
    """
    tensors = named_tensors(model)
    names = saved_names(model)
    stored_as = on_disk(model, {name: tensors[name].detach() for name in names})
    shards = shards_of(stored_as, shard_size)
    record = _record(stored, plan, [shard.name for shard in shards], shard_size)
    with resumed_folder(path, is_ours, record) as (part, done):
        try:
            with quiet():
                model.save_pretrained(part, state_dict={})  # the configs
            saved = write_config(
                part, model, plan, read, lambda: _difference(part, model, stored_as, plan, shapes_of)
            )
            save_tokenizer(part, model, None)
        except (OSError, PlanError) as error:
            raise CheckpointError(f"cannot save this model in {shown(path)}: {error}") from error
        write_index(part, shards, sum(one.numel() for one in parameters_of(model).values()))
        try:
            _write_weights(done, shards, values, _Slicing(plan, model), names, progress)
        except OSError as error:
            raise CheckpointError(
                f"cannot write {shown(path)}: {error.strerror or error}; once that is mended, the same call "
                f"goes on with what is finished, in {shown(done.parent)}"
            ) from error
        for shard in shards:
            (done / shard.name).replace(part / shard.name)
        write_beside(part, model, plan, saved, facts)
    return saved


class _Slicing:
    """What a plan makes of one tensor, which it may know by another name if it is tied."""

    def __init__(self, plan: Plan, model: nn.Module):
        self._ids = {name: id(tensor) for name, tensor in named_tensors(model).items()}
        self._axes = {self._ids[name]: axes for name, axes in plan.sliced.items()}
        self._scales = {self._ids[name]: axes for name, axes in plan.scales.items()}

    def __call__(self, name: str, tensor: Tensor) -> Tensor:
        axes, scales = self._axes.get(self._ids[name]), self._scales.get(self._ids[name])
        tensor = sliced(tensor, Indices().of(axes, tensor.device)) if axes else tensor
        return multiplied(tensor, scales) if scales else tensor


def _write_weights(
    folder: Path,
    shards: Sequence[Shard],
    values: Values,
    slicing: _Slicing,
    names: list[str],
    progress: Progress,
) -> None:
    """Write the shards that are not there yet, one after the other."""
    together = [(found, _stored_names(values.model, found)) for found in values.together(names)]
    done, count = 0, sum(len(shard.places) for shard in shards)
    for shard in shards:
        progress("writing", done, count)
        place, begun = folder / shard.name, folder / f"{shard.name}.begun"
        if not (place.is_file() and place.stat().st_size == shard.size):
            with ShardFile(begun, shard) as file:
                at = done
                for found, on in together:
                    if here := [name for name in on if name in shard.places]:
                        parts = {name: slicing(name, tensor) for name, tensor in values.of(found).items()}
                        made = on_disk(values.model, parts)
                        del parts
                        for name in here:
                            file.write(name, made.pop(name))
                        progress("writing", at := at + len(here), count)
            begun.replace(place)
        done += len(shard.places)
    progress("writing", done, count)


def _stored_names(model: Any, names: list[str]) -> list[str]:
    """The names on disk of tensors that are read together."""
    tensors = named_tensors(model)
    return list(on_disk(model, {name: tensors[name].detach() for name in names}))


def _record(stored: Stored, plan: Plan, files: list[str], shard_size: int | str) -> str:
    """What tells the work from any other."""
    text = hashlib.sha256(plan.to_json().encode()).hexdigest()
    return json.dumps([__version__, stored.fingerprint(), text, files, shard_size])


def _difference(
    part: Path, model: Any, stored_as: dict[str, Tensor], plan: Plan, shapes_of: Callable[[nn.Module], Any]
) -> str:
    """What the model that a folder makes has or does otherwise, as far as sizes tell."""
    lasting = lasting_tensors(model)
    try:
        with quiet():
            config = type(model.config).from_pretrained(part)
            loaded, found = on_meta(type(model), config, stored_as)
        amiss = found["missing_keys"] or found["mismatched_keys"]
        if amiss:
            return f"{min(map(str, amiss))} is another"
        others = lasting_tensors(loaded)
        for name, tensor in lasting.items():
            other = others.get(name)
            if other is None or other.shape != tensor.shape or other.dtype != tensor.dtype:
                return f"{name} is another"
        for name in plan.sliced.keys() - lasting.keys():
            if getattr(config, "quantization_config", None) is None:
                return f"{name}, which is not saved, may have other values"
        ours, others_shapes = shapes_of(model), shapes_of(loaded)
    except Exception as error:  # whatever transformers says of sizes that it does not expect
        return f"it cannot be loaded: {first_line(error)}"
    return "" if ours == others_shapes else "its outputs are others"
