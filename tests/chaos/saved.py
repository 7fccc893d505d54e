"""Files of pruned models, and all that is in a model before and after one is loaded."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from prunus import engine
from safetensors import safe_open
from torch import nn

from .file_nets import NETS

Contents = dict[str, Any]


@frozen(eq=False)
class Saved:
    """A pruned model, its file, and what a fresh one is before and after it is loaded."""

    template: nn.Module
    model: nn.Module
    plan: engine.Plan
    file: bytes
    metadata: dict[str, str]
    tensors: dict[str, torch.Tensor]
    before: Contents
    after: Contents
    names: list[str]

    def fresh(self) -> nn.Module:
        """A model for which the file is."""
        return copy.deepcopy(self.template)


@lru_cache
def saved(name: str) -> Saved:
    """The net of that name, pruned and saved."""
    make, x = NETS[name]
    torch.manual_seed(1)
    model = make().eval()
    template = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    result = engine.prune(model, example_inputs=x, ratio=0.5)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        result.save(path)
        with safe_open(path, "pt") as file:
            metadata, tensors = file.metadata(), {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        loaded = engine.load(path, copy.deepcopy(template))
        names = sorted({*contents(template), *_names(template), *tensors})
        return Saved(
            template, model, result.plan, path.read_bytes(), metadata, tensors, contents(template),
            contents(loaded), names,
        )  # fmt: skip


def contents(model: nn.Module, identities: bool = False) -> Contents:
    """All that is in a model, by where it is; with `identities` also which objects these are."""
    found: dict[str, Any] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        found[path] = type(module)
        _note(found, f"{path}.", vars(module), identities)
    return found


def _note(found: dict[str, Any], path: str, item: Any, identities: bool) -> None:
    if isinstance(item, torch.Tensor):
        memory = (id(item), item.data_ptr(), item._version) if identities else ()
        data = item.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        found[path] = (*memory, type(item), item.dtype, tuple(item.shape), item.requires_grad, data)
    elif isinstance(item, dict):
        found[path] = (type(item), id(item) if identities else 0, list(map(repr, item)))
        for key, one in item.items():
            _note(found, f"{path}[{key!r}]", one, identities)
    elif isinstance(item, (list, tuple)):
        found[path] = (type(item), id(item) if identities else 0, len(item))
        for number, one in enumerate(item):
            _note(found, f"{path}[{number}]", one, identities)
    elif hasattr(item, "__dict__") and not isinstance(item, (nn.Module, type)) and not callable(item):
        _note(found, f"{path}.__dict__", vars(item), identities)
    else:
        found[path] = (type(item), None if isinstance(item, nn.Module) or callable(item) else item)


def _names(model: nn.Module) -> Iterator[str]:
    """Names of all that is in a model, as a plan might give them."""
    for path, module in model.named_modules(remove_duplicate=False):
        prefix = f"{path}." if path else ""
        for name, value in vars(module).items():
            yield prefix + name
            parts = value.items() if isinstance(value, dict) else ()
            parts = enumerate(value) if isinstance(value, (list, tuple)) else parts
            for key, one in parts:
                yield f"{prefix}{name}[{key!r}]"
                yield f"{prefix}{key}"
                if isinstance(one, (list, tuple)):
                    yield f"{prefix}{name}[{key!r}][0]"


def difference(
    model: nn.Module, wanted: Contents, before: Contents, set_to: Collection[int] = ()
) -> str | None:
    """What of a model is not as wanted, but for sizes that are as before or as the plan says."""
    found = contents(model)
    if found.keys() != wanted.keys():
        return f"other parts: {sorted(found.keys() ^ wanted.keys())[:3]}"
    for place, now in found.items():
        if now != wanted[place]:
            kind, *value = now
            size = kind is type(before[place][1]) and "int" in kind.__name__ and value[0] > 0
            if not size or int(value[0]) not in {*set_to, int(before[place][1])}:
                return f"{place} is {str(now)[:80]}, not {str(wanted[place])[:80]}"
    return None
