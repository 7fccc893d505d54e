"""The whole numbers of a config: which there are, and a config with some of them changed."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from ..inputs import is_transformers_config

# The steps from a config to a number: names of attributes, keys of dicts, positions in lists.
Field = tuple[str | int, ...]


def numbers_of(config: Any) -> dict[Field, int | None]:
    """Every whole number above zero of a config and of the configs in it; those that are not given, too."""
    return dict(_walk(config, ()))


def with_numbers(config: Any, numbers: Mapping[Field, int]) -> Any:
    """A copy of a config in which these numbers are set."""
    made = copy.deepcopy(config)
    for (*way, last), number in numbers.items():
        around = [made]
        for step in way:
            around.append(_at(around[-1], step))
        new: Any = number
        for holder, step in zip(reversed(around), [last, *reversed(way)]):
            if not isinstance(holder, (list, tuple)):
                _set(holder, step, new)
                break
            items = list(holder)
            items[int(step)] = new
            new = type(holder)(items)
    return made


def written(field: Field) -> str:
    """``text_config.hidden_size``, ``num_heads[1]``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in field)
    return text.removeprefix(".")


def _walk(held: Any, way: Field) -> Iterator[tuple[Field, int | None]]:
    for step, value in _items(held):
        if value is None and is_transformers_config(held):
            yield (*way, step), None
        elif type(value) is int and value > 0:
            yield (*way, step), value
        elif is_transformers_config(value) or (isinstance(value, (list, tuple, dict)) and len(value) < 1000):
            yield from _walk(value, (*way, step))


def _items(held: Any) -> list[tuple[str | int, Any]]:
    if isinstance(held, dict):
        return [(key, value) for key, value in held.items() if isinstance(key, str)]
    if isinstance(held, (list, tuple)):
        return list(enumerate(held))
    return [(name, value) for name, value in vars(held).items() if not name.startswith("_")]


def _at(held: Any, step: str | int) -> Any:
    return vars(held)[step] if is_transformers_config(held) else held[step]


def _set(held: Any, step: str | int, value: Any) -> None:
    if isinstance(held, dict):
        held[step] = value
    else:
        setattr(held, str(step), value)
