"""Finds the config that makes a model of given sizes, by trial: no family of models is known.

A model is built on the meta device with one number of its config changed, and the axes and attributes that
move tell what the number decides. Numbers are then set, one after the other, to what the wanted sizes ask
for, as long as more of them become right; the best ways to do so are followed side by side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

import torch
from attrs import define, field, frozen
from torch import nn

from ...errors import PlanError, raise_foreign
from ..settings import attribute_of
from ..submodules import modules_of
from .fields import Field, numbers_of, with_numbers, written

# The size of each axis, by the tensor's name and its number, and of each attribute, by its name.
Place = tuple[str, int] | str
Sizes = dict[Place, int]
_TRIED = (lambda n: 2 * n, lambda n: n // 2, lambda n: 3 * n, lambda n: n + 1, lambda n: n - 1)
_INSTEAD_OF_NONE = (8, 2, 1)
# How many numbers are set at most, and of how many ways to do so each next number is tried.
_STEPS, _WAYS = 8, 6
_MOST = 400  # models that are built
_CANDIDATES = 3  # values that are tried of a number, those first that most places ask for
_SHOWN = 1


@frozen
class Solution:
    """The numbers to set; and, by place, the size that they give and the one wanted where these differ."""

    numbers: dict[Field, int]
    wrong: dict[Place, tuple[int, int]]
    deciding: dict[Place, list[Field]]

    @property
    def reason(self) -> str:
        """Why no config says the sizes."""
        told = [self._told(place, *sizes) for place, sizes in list(self.wrong.items())[:_SHOWN]]
        return "; ".join(told) + (f" and {len(self.wrong) - _SHOWN} more" if len(self.wrong) > _SHOWN else "")

    def _told(self, place: Place, found: int, wanted: int) -> str:
        name = place if isinstance(place, str) else f"{place[0]}[{place[1]}]"
        fields = " and ".join(map(written, self.deciding.get(place, ())))
        return f"{name} is {wanted}, which " + (f"{fields} cannot say" if fields else "no field can say")


def sizes_of(model: nn.Module, attributes: Iterable[str]) -> Sizes:
    """The sizes of what is saved of a model, and these attributes."""
    sizes: Sizes = {
        (name, axis): size
        for name, tensor in lasting_tensors(model).items()
        for axis, size in enumerate(tensor.shape)
    }
    for name in attributes:
        try:
            sizes[name] = int(attribute_of(model, name))
        except (PlanError, LookupError):
            continue  # another class of module has another one
    return sizes


def lasting_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and persistent buffers, tied ones under every name."""
    return {
        f"{path}.{name}" if path else name: tensor
        for path, module in modules_of(model)
        for kind in (module._parameters, module._buffers)
        for name, tensor in kind.items()
        if tensor is not None and name not in module._non_persistent_buffers_set
    }


def twin_of(model: nn.Module, config: Any) -> nn.Module:
    """A model of the same class, built from a config on the meta device, without values."""
    with torch.device("meta"), _without_init():
        return type(model)(with_numbers(config, {}))


def solve(model: nn.Module, config: Any, attributes: Iterable[str]) -> Solution:
    """The numbers with which `config` makes a model of the sizes of `model`."""
    names = list(attributes)
    trials = _Trials(lambda numbers: sizes_of(twin_of(model, with_numbers(config, numbers)), names))
    search = _Search(trials, sizes_of(model, names), numbers_of(config))
    twin_of(model, config)  # what the class complains of
    return search.run()


def _without_init() -> Any:
    """Meta tensors need no first values; where these are left out is not the same in all versions."""
    try:
        home: Any = import_module("transformers.initialization")
    except ImportError:
        home = import_module("transformers.modeling_utils")
    return home.no_init_weights()


@define
class _Trials:
    """What configs make, each tried once."""

    build: Callable[[Mapping[Field, int]], Sizes]
    known: dict[frozenset[tuple[Field, int]], Sizes | None] = field(factory=dict)

    @property
    def enough(self) -> bool:
        """Whether so many were tried that no more are."""
        return len(self.known) >= _MOST

    def __call__(self, numbers: Mapping[Field, int]) -> Sizes | None:
        """The sizes with these numbers; `None` if the class has none for them."""
        key = frozenset(numbers.items())
        if key not in self.known:
            try:
                self.known[key] = self.build(numbers)
            except Exception as error:  # a class may refuse a number in any way
                raise_foreign(error)
                self.known[key] = None
        return self.known[key]


@define
class _Search:
    trials: _Trials
    wanted: Sizes
    before: dict[Field, int | None]
    moved: dict[Field, dict[Place, float]] = field(factory=dict)

    def run(self) -> Solution:
        """Set numbers as long as more of the sizes become right."""
        implied = dict(self._implied())
        best, ways = implied, [implied]
        for _ in range(_STEPS):
            if not self._wrong(best) or self.trials.enough:
                break
            nearby = [one for numbers in ways for one in self._nearby(numbers, self._wrong(numbers))]
            ways = sorted({frozenset(one.items()): one for one in nearby}.values(), key=self._badness)[:_WAYS]
            best = min([best, *ways], key=self._badness)
        now = self._without_needless(implied, best)
        found, wrong = self.trials(now) or {}, self._wrong(now)
        left = {place: (found.get(place, 0), size) for place, size in self.wanted.items() if place in wrong}
        deciding = {place: [one for one, moved in self.moved.items() if place in moved] for place in left}
        return Solution(now, left, deciding)

    def _badness(self, numbers: Mapping[Field, int]) -> int:
        return len(self._wrong(numbers))

    def _wrong(self, numbers: Mapping[Field, int]) -> set[Place]:
        """The places that have another size than is wanted, or that one of the two models has not."""
        found = self.trials(numbers)
        if found is None:
            return {*self.wanted, ""}
        if found == self.wanted:
            return set()
        return {
            place for place in found.keys() | self.wanted.keys() if found.get(place) != self.wanted.get(place)
        }

    def _implied(self) -> Iterator[tuple[Field, int]]:
        """What is not given, and yet decides sizes: the number that could have been given instead."""
        base = self.trials({}) or {}
        for one in [one for one, number in self.before.items() if number is None]:
            for tried in _INSTEAD_OF_NONE:
                found = self.trials({one: tried})
                if found is None or found == base:
                    continue
                asked = {
                    base[place] * tried // found[place]
                    for place in base.keys() & found.keys()
                    if found[place] != base[place] and found[place]
                }
                yield from [(one, number) for number in asked if self.trials({one: number}) == base][:1]
                break

    def _nearby(self, numbers: dict[Field, int], wrong: set[Place]) -> Iterator[dict[Field, int]]:
        """These numbers with one of them as places that it decides, and that are wrong, ask for."""
        now = self.trials(numbers) or {}
        for one, number in self._given(numbers):
            moved = self._moved(numbers, one, number)
            asked: Counter[int] = Counter()
            for place in wrong & moved.keys() & now.keys() & self.wanted.keys():
                wanted = number + (self.wanted[place] - now[place]) / moved[place]
                asked[round(wanted)] += wanted > 0
            for candidate, _ in asked.most_common(_CANDIDATES):
                if candidate > 0:
                    yield {**numbers, one: candidate}

    def _given(self, numbers: Mapping[Field, int]) -> Iterator[tuple[Field, int]]:
        for one, before in self.before.items():
            number = numbers.get(one, before)
            if number is not None and self.moved.get(one) != {}:
                yield one, number

    def _moved(self, numbers: Mapping[Field, int], one: Field, number: int) -> dict[Place, float]:
        """By how much each place moves with a number, which decides how many there are of none."""
        now = self.trials(numbers) or {}
        for tried in dict.fromkeys(change(number) for change in _TRIED):
            found = self.trials({**numbers, one: tried}) if tried > 0 and tried != number else None
            if found is not None:
                same = found.keys() == now.keys()
                moved = {
                    place: found[place] - size for place, size in now.items() if same and found[place] != size
                }
                self.moved[one] = {place: step / (tried - number) for place, step in moved.items()}
                return self.moved[one]
        self.moved.setdefault(one, {})
        return {}

    def _without_needless(self, implied: Mapping[Field, int], numbers: dict[Field, int]) -> dict[Field, int]:
        """The numbers without those implied ones without which the sizes stay the same."""
        sizes = self.trials(numbers)
        for one in implied:
            fewer = {other: number for other, number in numbers.items() if other != one}
            if self.trials(fewer) == sizes:
                numbers = fewer
        return numbers
