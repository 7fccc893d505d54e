"""Data that others wrote: JSON is read strictly, and a check names the place that is not as it must be."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import islice
from math import isfinite
from operator import lt
from typing import Any

from ..errors import shown

Check = Callable[[Any, str], None]

_LARGEST = 2**63 - 1  # of what torch can count
_AXES = {str(axis) for axis in range(64)}  # as many as a tensor can have


class Malformed(ValueError):
    """What is wrong, and where."""


def parsed(text: Any) -> Any:
    """The data that a JSON text has; a key twice, ``NaN`` and endless nesting are `Malformed`, too."""
    if not isinstance(text, str):
        raise Malformed(f"it is {_kind(text)}, not text")
    try:
        return json.loads(text, object_pairs_hook=_without_repetition, parse_constant=_refuse)
    except RecursionError:
        raise Malformed("it is nested without end") from None
    except ValueError as error:
        raise Malformed(str(error)) from error


def record(required: Mapping[str, Check], optional: Mapping[str, Check]) -> Check:
    """An object with these fields, and no others."""

    def check(value: Any, place: str) -> None:
        known = {**required, **optional}
        table(lambda item, where: None)(value, place or "it")
        for name in [*(required.keys() - value.keys()), *(value.keys() - known.keys())]:
            raise Malformed(f"the field {shown(name)} is {'unknown' if name in value else 'missing'}")
        for name, item in value.items():
            known[name](item, name)

    return check


def table(of: Check) -> Check:
    """An object whose values, by whatever names, are of one form."""

    def check(value: Any, place: str) -> None:
        if type(value) is not dict:
            raise Malformed(f"{place} is {_kind(value)}, not an object")
        for name, item in value.items():
            of(item, f"{place}[{shown(name)}]")

    return check


def by_axis(of: Check) -> Check:
    """The same by the numbers of axes."""

    def check(value: Any, place: str) -> None:
        table(of)(value, place)
        for name in value:
            if name not in _AXES:
                raise Malformed(f"{place} has {shown(name)}, which is no axis")

    return check


def text(value: Any, place: str) -> None:
    """A text."""
    if type(value) is not str:
        raise Malformed(f"{place} is {_kind(value)}, not a text")


def names(value: Any, place: str) -> None:
    """A list of texts, none of them twice."""
    _list(value, place, {str})
    if len(set(value)) < len(value):
        raise Malformed(f"{place} has a name twice")


def positive(value: Any, place: str) -> None:
    """A whole number from 1 up."""
    if type(value) is not int or not 0 < value <= _LARGEST:
        raise Malformed(f"{place} is {_kind(value)}, not a whole number from 1 up")


def shape(value: Any, place: str) -> None:
    """A list of whole numbers from 0 up, one for each axis."""
    _sizes(value, place)
    if len(value) > len(_AXES):
        raise Malformed(f"{place} has more axes than a tensor can have")


def slots(value: Any, place: str) -> None:
    """A list of at least one whole number from 0 up, each larger than the one before it."""
    _sizes(value, place)
    if not value or not all(map(lt, value, islice(value, 1, None))):
        raise Malformed(f"{place} is no list of slots, each larger than the one before it")


def factors(value: Any, place: str) -> None:
    """A list of numbers that can be multiplied and divided by."""
    _list(value, place, {int, float})
    if not all(abs(one) <= _LARGEST and isfinite(one) and one for one in value):
        raise Malformed(f"{place} has a number that nothing can be multiplied by")


def _sizes(value: Any, place: str) -> None:
    _list(value, place, {int})
    if value and not 0 <= min(value) <= max(value) <= _LARGEST:
        raise Malformed(f"{place} has a number that is no size")


def _list(value: Any, place: str, of: set[type]) -> None:
    if type(value) is not list:
        raise Malformed(f"{place} is {_kind(value)}, not a list")
    if not set(map(type, value)) <= of:
        raise Malformed(f"{place} has {_kind(next(one for one in value if type(one) not in of))} in it")


def _kind(value: Any) -> str:
    """What a value is, in the words of JSON."""
    if type(value) is int and abs(value) > _LARGEST:
        return "a huge number"
    if value is None or isinstance(value, (bool, int, float)):
        return json.dumps(value)
    words: dict[type, str] = {str: "a text", list: "a list", dict: "an object"}
    return words.get(type(value), f"a {type(value).__name__}")


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise Malformed(f"{shown(max(counts, key=counts.__getitem__))} is there twice")
    return found


def _refuse(name: str) -> None:
    raise Malformed(f"{name} is no number")
