"""Saves a pruned transformers model as a folder that ``from_pretrained`` loads.

Where a config says all sizes, the folder is *plain*: transformers alone loads it. Where none does it is
*shaped*: `shaped` tells what the config cannot, and `plugin` loads it once prunus is imported.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import evolve, frozen
from torch import nn

from ...errors import CheckpointError, PlanError, raise_foreign, shown
from ...files import PathLike, written_folder
from ..checkpoint import check_carried_out
from ..inputs import has_config, is_transformers_config
from ..plan import Plan
from ..settings import setting_of
from ..snapshot import Snapshot
from ..tensors import named_tensors
from ..undo import undoing
from .beside import FILES, PLAN, files_in, is_ours, save_tokenizer, source_of
from .card import card
from .fields import Field, with_numbers, written
from .plugin import METHOD, register
from .same import Run, difference, guessed, last_line, quiet
from .shaped import record_of, sealed
from .solve import lasting_tensors, solve, twin_of

_SIZE = re.compile(r"\d*[1-9]\d*(\.\d+)?[KMGT]B", re.IGNORECASE)


@frozen
class Saved:
    """What a folder is: ``"plain"`` or ``"shaped"``; the fields of the config that were set, and to what; for
    a shaped one the reason why no config says its sizes; and whether the plan is not from the whole model."""

    form: str
    fields: Mapping[str, int]
    reason: str
    again: bool = False

    def __str__(self) -> str:
        said = ", ".join(f"{name}={number}" for name, number in self.fields.items())
        told = f"plain: its config says {said or 'the same as before'}"
        if self.form == "shaped":
            told = f"shaped: load it after `import prunus`, as {self.reason}"
        return told + (f"; {PLAN} tells the last step alone, of a model pruned before" if self.again else "")


def is_folder_for(path: PathLike, model: nn.Module) -> bool:
    """Whether a model is to be saved at `path` as a folder: a transformers model, and no name of a file."""
    is_name = isinstance(path, (str, os.PathLike))
    return is_name and has_config(model) and Path(path).suffix != ".safetensors"


def save_folder(
    path: PathLike,
    model: Any,
    plan: Plan,
    *,
    run: Run | None = None,
    read: Iterable[str] = (),
    tokenizer: Any = None,
    max_shard_size: int | str = "5GB",
    facts: Sequence[str] = (),
) -> Saved:
    """Write what ``from_pretrained`` loads, whole or not at all.

    The folder is loaded before it appears, and the loaded model must have the same tensors, bit for bit, and
    give the same outputs. Tokenizer and processor files of the folder that the model came from are copied.

    Parameters
    ----------
    path : where to; an empty folder, or one that prunus wrote, is replaced.
    model : a transformers model on which `plan` has been carried out.
    run : gives the outputs of a model; without it inputs are guessed.
    read : the attributes that the forward reads, which a config must make the same.
    tokenizer : saved along, by its ``save_pretrained``, instead of the files that the model came with.
    max_shard_size : the largest file of weights, in bytes or as ``"200MB"``.
    facts : lines for the model card.

    Raises
    ------
    CheckpointError
        The folder cannot be written or is something else's, what is loaded is not the same, or an option is
        of another kind.
    """
    check_options(tokenizer, max_shard_size)
    for name, tensor in lasting_tensors(model).items():
        if tensor.is_meta:
            raise CheckpointError(
                f"{name} is on the meta device and has no values: engine.prune_checkpoint has written them "
                "where it was told to; else load the model"
            )
    register()
    check_carried_out(model, plan, named_tensors(model))
    run = run or guessed(model)
    computed = plan.sliced.keys() - lasting_tensors(model).keys()
    with written_folder(path, is_ours, CheckpointError) as part:
        try:
            with _configs_kept(model):
                with quiet(), _without_quantizer(model):
                    model.save_pretrained(part, max_shard_size=max_shard_size)
                saved = write_config(part, model, plan, read, lambda: difference(part, model, run, computed))
            save_tokenizer(part, model, tokenizer)
        except (OSError, PlanError) as error:
            raise CheckpointError(f"cannot save this model in {shown(path)}: {error}") from error
        write_beside(part, model, plan, saved, facts)
    return saved


def write_config(
    part: Path, model: Any, plan: Plan, read: Iterable[str], differs: Callable[[], str]
) -> Saved:
    """Write the config that makes a model of these sizes, where there is one, else one with a record.

    `read` are the attributes that the forward reads, and `differs` tells what the folder, as it is now, has
    or does otherwise than the model, if anything. Raises `CheckpointError` if no config makes it.
    """
    saved = _written(part, model, plan, differs, {*read, *plan.attributes})
    return evolve(saved, again=_was_pruned(model, plan))


def write_beside(part: Path, model: Any, plan: Plan, saved: Saved, facts: Sequence[str]) -> None:
    """Write the plan, the model card, and last the names of all files, by which prunus knows its own."""
    (part / PLAN).write_text(plan.to_json(), encoding="utf-8")
    (part / "README.md").write_text(card(model, saved, facts), encoding="utf-8")
    (part / FILES).write_text(json.dumps(sorted(files_in(part))), encoding="utf-8")


# --- what is asked for ------------------------------------------------------------------------------------


def check_options(tokenizer: Any, max_shard_size: Any) -> None:
    """Raise `CheckpointError` for what is no tokenizer, or no size of a file."""
    if tokenizer is not None and not callable(getattr(tokenizer, "save_pretrained", None)):
        raise CheckpointError(f"tokenizer= is one of transformers, with save_pretrained, not {tokenizer!r}")
    is_number = type(max_shard_size) is int and max_shard_size > 0
    is_text = isinstance(max_shard_size, str) and re.fullmatch(_SIZE, max_shard_size)
    if not is_number and not is_text:
        raise CheckpointError(
            f"max_shard_size= is a number of bytes above zero or a size as '200MB', not {max_shard_size!r}"
        )


# --- what is written ---------------------------------------------------------------------------------------


def _written(
    part: Path, model: Any, plan: Plan, differs: Callable[[], str], attributes: Iterable[str]
) -> Saved:
    config = _before(model, plan)
    earlier = _record_in(config)
    vars(config).pop("quantization_config", None)
    solution = solve(model, config, sorted(attributes))
    fields = {written(field): number for field, number in solution.numbers.items()}
    reason = solution.reason
    if not solution.wrong:
        reason = _refusal(with_numbers(config, solution.numbers), part) or differs()
        if not reason:
            return Saved("plain", fields, "")
        reason = f"with {', '.join(fields) or 'its config'} set, {reason}"
    record = record_of(model, twin_of(model, config), plan, earlier)
    # What is in the config itself is changed only if the forward needs it there: saved once more, that config
    # would make other modules than the record is for.
    for left_out in (_in_configs(model, record["attributes"]), ()):
        attributes = {name: value for name, value in record["attributes"].items() if name not in left_out}
        told = sealed({**record, "attributes": attributes})
        config.quantization_config = {"quant_method": METHOD, "record": told}
        config.save_pretrained(part)
        other = differs()
        if not other:
            break
    else:
        raise CheckpointError(f"what was saved is not what is loaded: {other}; nothing was written")
    return Saved("shaped", {}, reason)


@contextmanager
def _configs_kept(model: Any) -> Iterator[None]:
    """Without what transformers notes in configs that it writes: of which class and dtype the model is."""
    before = Snapshot({})
    with undoing() as undo:
        before.note([model.config, getattr(model, "generation_config", None)])
        undo.add(before.put_back)
        yield


@contextmanager
def _without_quantizer(model: Any) -> Iterator[None]:
    """Without what has unpacked the weights, and would not let them be saved as they are."""
    held = {name: value for name, value in vars(model).items() if name == "hf_quantizer"}
    with undoing() as undo:
        undo.add(vars(model).update, held)
        for name in held:
            del vars(model)[name]
        yield


def _refusal(config: Any, part: Path) -> str:
    """What a config says against being written, if anything: some check that their numbers go together."""
    try:
        config.save_pretrained(part)
    except Exception as error:  # of whatever kind a version has for that
        raise_foreign(error)
        return last_line(error)
    return ""


def _before(model: Any, plan: Plan) -> Any:
    """The config, with the numbers that it had before the plan changed them in place."""
    held = _in_configs(model, plan.before)
    return with_numbers(model.config, {field: plan.before[name] for name, field in held.items()})


def _was_pruned(model: Any, plan: Plan) -> bool:
    """Whether the plan is from a model that was pruned already, not from the one that its config makes."""
    config, source = _before(model, plan), source_of(model)
    fresh = lasting_tensors(twin_of(model, config))
    sizes = [
        pair for name, shape in plan.shapes.items() if name in fresh for pair in zip(shape, fresh[name].shape)
    ]
    if any(before != made for before, made in sizes):
        return any(before < made for before, made in sizes)
    return source is not None and (source / FILES).exists() and not _record_in(config)


def _in_configs(model: Any, names: Iterable[str]) -> dict[str, Field]:
    """Those of the attributes that are numbers of the model's config, and where these are."""
    configs = {id(vars(one)): way for way, one in _configs_in(model.config, ())}
    settings = {name: setting_of(model, name) for name in names}
    return {
        name: (*configs[id(one.namespace)], one.name, *one.keys)
        for name, one in settings.items()
        if id(one.namespace) in configs
    }


def _configs_in(config: Any, way: Field) -> Iterator[tuple[Field, Any]]:
    yield way, config
    for name, one in vars(config).items():
        if is_transformers_config(one):
            yield from _configs_in(one, (*way, name))


def _record_in(config: Any) -> Mapping[str, Any]:
    """The record of a model that was shaped when it was loaded."""
    given = getattr(config, "quantization_config", None)
    return given["record"] if isinstance(given, dict) and given.get("quant_method") == METHOD else {}
