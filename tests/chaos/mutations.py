"""Small changes of data and texts, such as a bug, or somebody who means harm, might make."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any

# What may stand where something else is expected.
ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 3, 7, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30, 0.5, 1.0, -0.0, 1e308),
    *("", "0", "-1", "\0", "a" * 3000, "weight", "Wörtchen \u6881", "\ud800", ".", "..", "[0]", "__class__"),
    *([], {}, [[]], {"a": {}}, [0], [1, 0], [0, 0], [True], ["a"], [-1], [0.0], {"0": [0]}, {"": []}),
]


def mutated(data: Any, random: Random, names: list[str]) -> Any:
    """A copy of JSON data with one to three changes; `names` are such as might be meant."""
    data = copy.deepcopy(data)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        holders = [one for one in _holders(data) if one]
        if holders:
            _change(random.choice(holders), random, names)
    return data


def _holders(data: Any) -> list[Any]:
    found, todo = [], [data]
    while todo:
        one = todo.pop()
        if isinstance(one, (dict, list)):
            found.append(one)
            todo += one.values() if isinstance(one, dict) else one
    return found


def _change(holder: Any, random: Random, names: list[str]) -> None:
    key = random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    other = random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    how = random.randrange(8)
    if how == 0:
        del holder[key]
    elif how == 1:
        holder[key] = copy.deepcopy(random.choice(ODD))
    elif how == 2:
        holder[key], holder[other] = holder[other], holder[key]
    elif how == 3:
        holder[key] = _near(holder[key], random, names)
    elif isinstance(holder, dict):
        new = random.choice([random.choice(names), f"{key}[0]", key[1:], f" {key}", *map(str, ODD[:20])])
        holder[new] = holder[key] if how < 6 else copy.deepcopy(random.choice(ODD))
        if how == 4:
            del holder[key]
    elif how == 4:
        holder.insert(key, copy.deepcopy(holder[other]))
    elif how == 5:
        random.shuffle(holder)
    elif how == 6:
        del holder[key:]
    else:
        holder.append(copy.deepcopy(random.choice(ODD)))


def _near(value: Any, random: Random, names: list[str]) -> Any:
    """Something of the same type, or nearly so."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, (int, float)):
        return random.choice([value + 1, value - 1, -value, float(value), value * 2, str(value), value + 0.5])
    if isinstance(value, str):
        return random.choice([random.choice(names), value + "x", value[:-1], value.upper(), value + ".x"])
    if isinstance(value, list):
        return random.choice([value[::-1], value[1:], value * 2, [*value, 10**6], {"0": value}, [value]])
    return random.choice([list(value), {}, {key.upper(): one for key, one in value.items()}])


def _cut(text: str, random: Random) -> str:
    return text[: random.randrange(len(text) + 1)]


def _flipped(text: str, random: Random) -> str:
    place = random.randrange(len(text) + 1)
    return text[:place] + random.choice('0123456789-+.eE"[]{},: \\nNaItf\x00é') + text[place + 1 :]


def _repeated_key(text: str, random: Random) -> str:
    return text.replace("{", '{"groups": {}, "groups": {}, ', 1)


def _nested(text: str, random: Random) -> str:
    bracket = random.choice(["[", '{"a":'])
    return bracket * random.choice((10, 900, 1100, 100_000))


def _not_numbers(text: str, random: Random) -> str:
    return text.replace("1", random.choice(["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "0x1"]), 1)


_TEXTS: list[Callable[[str, Random], str]] = [_cut, _flipped, _repeated_key, _nested, _not_numbers]


def mutated_text(text: str, random: Random, names: list[str]) -> str:
    """The JSON text after a change of its data, or of the text itself."""
    if random.random() < 0.25:
        return random.choice(_TEXTS)(text, random)
    if random.random() < 0.05:
        return json.dumps(random.choice(ODD))
    return json.dumps(mutated(json.loads(text), random, names))
