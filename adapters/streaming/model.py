"""A stored checkpoint as the model that it is of, without values; and the values, one tensor at a time.

Names on disk differ from those in memory where transformers renames, splits or merges weights. Its own
mapping is used, both ways: what belongs together by it, as the experts of a layer, is read and written
together.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from importlib.util import find_spec
from typing import Any

import torch
from attrs import field, frozen
from torch import Tensor

from ...errors import CheckpointError, shown
from ..folder.load import LOADING, check_loaded, class_in
from ..folder.plugin import METHOD, register
from ..folder.same import first_line, quiet
from ..tensors import named_tensors
from .stored import CONFIG, Stored

_GENERATION = "generation_config.json"


def model_of(stored: Stored) -> Any:
    """The model of a checkpoint on the meta device, with the dtypes that ``dtype="auto"`` gives.

    Raises `CheckpointError` if transformers has no such model, or the files are not of it.
    """
    if find_spec("accelerate") is None:
        raise CheckpointError("a model without values is made by accelerate: pip install accelerate")
    register()
    import transformers  # whoever has a folder has it

    place = stored.place
    try:
        _check_not_packed(stored)
        with quiet():
            kind = class_in(place)
            config = transformers.AutoConfig.from_pretrained(place)
            model, found = on_meta(kind, config, _tied_once(kind, stored))
            model.name_or_path = model.config._name_or_path = str(place)
            if model.can_generate() and (place / _GENERATION).is_file():
                model.generation_config = transformers.GenerationConfig.from_pretrained(place)
        check_loaded(place, found)
    except CheckpointError:
        raise
    except Exception as error:  # of files that anybody may have written
        raise CheckpointError(f"cannot make the model of {shown(place)}: {first_line(error)}") from error
    return model


def on_meta(kind: Any, config: Any, tensors: Mapping[str, Tensor]) -> tuple[Any, dict[str, Any]]:
    """A model of this class that was loaded from tensors without values, and what was amiss."""
    return kind.from_pretrained(
        None, config=config, state_dict=dict(tensors), dtype="auto", device_map={"": "meta"}, **LOADING
    )


def _tied_once(kind: Any, stored: Stored) -> dict[str, Tensor]:
    """The tensors without those that the class ties to others, where they are stored twice and are equal.

    Of tensors without values transformers could not tell, and would not tie them.
    """
    ties = getattr(kind, "_tied_weights_keys", None)
    pairs = ties.items() if isinstance(ties, Mapping) else ()
    twice = [(name, to) for name, to in pairs if name in stored.tensors and to in stored.tensors]
    same = {name for name, to in twice if torch.equal(stored.read(name), stored.read(to))}
    return {name: tensor for name, tensor in stored.tensors.items() if name not in same}


def _check_not_packed(stored: Stored) -> None:
    told = json.loads((stored.place / CONFIG).read_text(encoding="utf-8"))
    packed = told.get("quantization_config") if isinstance(told, dict) else None
    method = packed.get("quant_method") if isinstance(packed, dict) else None
    if packed is not None and method != METHOD:
        raise CheckpointError(
            f"the weights in {shown(stored.place)} are packed by {shown(str(method))}: prune the checkpoint "
            "that they were made from, and quantise the result"
        )


@frozen
class Unit:
    """Tensors on disk that make tensors of the model together: one of one, or as many as a converter takes.

    ``sources`` are their names on disk with the pattern of the converter that each fits, ``name`` is the
    model's, the first of them if there are several.
    """

    name: str
    converter: Any
    dtype: torch.dtype
    sources: list[tuple[str, str | None]] = field(factory=list)

    def load(self, model: Any, config: Any, read: Callable[[str], Tensor]) -> dict[str, Tensor]:
        """The model's tensors by name, of what `read` gives of those on disk.

        `config` is the model's as it was loaded."""
        if self.converter is None:
            ((name, _),) = self.sources
            return {self.name: read(name).to(self.dtype)}
        converter = deepcopy(self.converter)
        for name, pattern in self.sources:
            converter.add_tensor(self.name, name, pattern, read(name).to(self.dtype))
        made = converter.convert(self.name, model=model, config=config)
        return {name: one[0] if isinstance(one, list) else one for name, one in made.items()}


class Values(Mapping[str, Tensor]):
    """The tensors of a model on the meta device by name, each read from disk whenever it is asked for."""

    def __init__(self, model: Any, stored: Stored):
        self.model, self._stored = model, stored
        self._config = deepcopy(model.config)  # pruning changes its numbers
        self.watch: Callable[[str], None] = lambda name: None  # told what is read
        self._unit_of: dict[str, Unit] = {}
        for unit in _units(model, stored):
            for name in unit.load(model, self._config, stored.tensors.__getitem__):
                self._unit_of[name] = unit
        # Of a tied tensor only one name has a unit.
        ids = {id(tensor): name for name, tensor in named_tensors(model).items() if name in self._unit_of}
        self._known = {
            name: ids[id(tensor)] for name, tensor in named_tensors(model).items() if id(tensor) in ids
        }

    def __getitem__(self, name: str) -> Tensor:
        known = self._known[name]
        return self._load(self._unit_of[known])[known]

    def __contains__(self, name: object) -> bool:
        return name in self._known  # without reading it

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def together(self, names: list[str]) -> list[list[str]]:
        """These names, in order, those together that are read together."""
        found: dict[int, list[str]] = defaultdict(list)
        for name in names:
            found[id(self._unit_of[self._known[name]])].append(name)
        return list(found.values())

    def _load(self, unit: Unit) -> dict[str, Tensor]:
        self.watch(unit.name)
        return unit.load(self.model, self._config, self._stored.read)

    def of(self, names: list[str]) -> dict[str, Tensor]:
        """The tensors of names that are read together."""
        known = self._known[names[0]]
        loaded = self._load(self._unit_of[known])
        return {name: loaded[self._known[name]] for name in names}


def _units(model: Any, stored: Stored) -> list[Unit]:
    """What transformers makes of the names on disk, as it does when it loads them."""
    from transformers import core_model_loading as loading  # whoever has a folder has it

    steps = model._weight_conversions or []
    renamings = [step for step in steps if isinstance(step, loading.WeightRenaming)]
    converters = [step for step in steps if isinstance(step, loading.WeightConverter)]
    by_pattern = {pattern: one for one in converters for pattern in one.source_patterns}
    wanted = model.state_dict()
    prefix = model.base_model_prefix
    units: dict[str, Unit] = {}
    for name in sorted(stored.tensors, key=loading.dot_natural_key):
        found, pattern = loading.rename_source_key(name, renamings, converters, prefix, wanted)
        if found not in wanted and name in wanted:
            found, pattern = loading.rename_source_key(name, [], [], prefix, wanted)
        if found in wanted:
            converter = None if pattern is None else by_pattern[pattern]
            unit = units.setdefault(found, Unit(found, converter, wanted[found].dtype))
            unit.sources.append((name, pattern))
    return list(units.values())


def on_disk(model: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the model as they are stored, by their names on disk."""
    from transformers import core_model_loading as loading  # whoever has a folder has it

    return loading.revert_weight_conversion(model, dict(tensors))


def saved_names(model: Any) -> list[str]:
    """The names of the tensors that ``save_pretrained`` saves: tied ones once."""
    from transformers import modeling_utils  # whoever has a folder has it

    tensors = model.state_dict()
    for name in model._keys_to_ignore_on_save or ():
        tensors.pop(name, None)
    return list(modeling_utils.remove_tied_weights_from_state_dict(tensors, model))
