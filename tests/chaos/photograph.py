"""All that can be seen of some objects, to tell later whether anything of it has changed."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

_PLAIN = (int, float, complex, str, bytes, type(None), torch.dtype, torch.device)
_LOOKED_INTO = (nn.Module, torch.optim.Optimizer)


class Photograph:
    """What objects hold, down to the bits of tensors, and which are the same object or share memory."""

    def __init__(self, facts: dict[str, Any], **roots: Any):
        self.facts = dict(facts)
        self.objects: list[Any] = []  # in the order in which they are met; this also keeps them alive
        self._numbers: dict[int, int] = {}
        self._memories: dict[int, int] = {}
        self._alive: list[Any] = []
        for name, root in roots.items():
            self._look(name, root)

    def difference(self, other: Photograph, same_objects: bool = True) -> str | None:
        """Where another photograph shows something else, on request also other objects; or ``None``."""
        for path in [*self.facts, *other.facts]:
            # The keys of hooks are counted through the process, which is compared with itself alone.
            if same_objects or not (path.endswith("_hooks keys") or path.startswith("process ")):
                before, now = (one.facts.get(path, "nothing") for one in (self, other))
                if before != now:
                    return f"{path} was {_short(before)} and is {_short(now)}"
        if same_objects:
            for number, (before, now) in enumerate(zip(self.objects, other.objects)):
                if before is not now:
                    return f"object {number}, a {type(before).__name__}, is another one"
        return None

    def _look(self, path: str, item: Any) -> None:
        if isinstance(item, _PLAIN):
            self.facts[path] = type(item), repr(item)
            return
        known = id(item) in self._numbers
        number = self._numbers.setdefault(id(item), len(self._numbers))
        if known:
            self.facts[path] = number
            return
        self.objects.append(item)
        self.facts[path] = number, type(item)
        if isinstance(item, nn.Module) and type(item).__module__.startswith("chaos"):
            own = vars(type(item)).items()
            self.facts[f"{path} class"] = {name: one for name, one in own if not isinstance(one, list)}
        if isinstance(item, Tensor):
            self._look_at_tensor(path, item)
        else:
            for name, part in _parts(item):
                self._look(f"{path}.{name}", part)
            if isinstance(item, (dict, OrderedDict)):
                self.facts[f"{path} keys"] = [key if isinstance(key, _PLAIN) else "" for key in item]

    def _look_at_tensor(self, path: str, item: Tensor) -> None:
        self._alive.append(item.untyped_storage())
        shared = self._memories.setdefault(self._alive[-1]._cdata, len(self._memories))
        place = tuple(item.shape), item.stride(), item.storage_offset(), shared
        self.facts[f"{path} data"] = item.dtype, *place, _bits(item)
        self.facts[f"{path} flags"] = item.requires_grad, item.is_leaf
        if item.is_leaf and item.grad is not None:
            self._look(f"{path}.grad", item.grad)


def _parts(item: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(item, dict):
        for number, (key, one) in enumerate(item.items()):
            yield (key if isinstance(key, str) else number), one
    elif isinstance(item, (list, tuple, deque)):
        yield from enumerate(item)
    elif isinstance(item, FunctionType):
        yield from enumerate(cell.cell_contents for cell in item.__closure__ or ())
    elif isinstance(item, _LOOKED_INTO) or type(item).__module__.startswith("chaos"):
        yield "__dict__", vars(item)


def _bits(tensor: Tensor) -> bytes:
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    return plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b""


def _short(fact: Any) -> str:
    text = str(fact)
    return text if len(text) < 200 else text[:100] + "..." + text[-60:]
