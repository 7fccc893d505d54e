"""Draws calls that a signature describes: distinct sizes for all factors, and tensors of those sizes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, product
from math import prod
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from ..grammar import ast
from ..grammar.validate import names_in
from .arguments import argument_names, tensor_arguments
from .examples import Example, called

_SMALLEST = 3  # an axis that loses a slot must not become one of size 1, which broadcasts
_ATTEMPTS = 8
_AXES = 3  # as many behind stars in all: every axis makes the tensors larger
_CALLS = 6  # as many calls as there are tried of one target
_KINDS = (torch.float64, torch.float32, torch.bfloat16, torch.bool, torch.int64, torch.complex128)


def draw(
    rule: ast.Rule, name: str, target: Callable[..., Any], takes: Callable[[Example], str | None]
) -> list[Example]:
    """Calls of `target`, of that dotted name, as the signature of `rule` describes them.

    `takes` runs a call and returns what is wrong with it, if anything. Sizes, numbers of axes behind stars,
    positions and dtypes are varied until a few calls were taken.

    Raises `ValueError` with what the operation said if it took none.
    """
    if isinstance(target, type):
        raise ValueError("it is a class, of which prunus would have to make an instance")
    assert isinstance(rule.body, ast.Signature)
    return _Drawing(rule, rule.body, name, target, takes).calls()


@frozen
class _Shapes:
    """One choice of sizes: by factor, and for each star those of its axes."""

    factors: Mapping[str, int]
    stars: Mapping[str, tuple[int, ...]]

    def of(self, dims: Sequence[ast.Dim]) -> tuple[int, ...]:
        """The shape of an operand with these dims."""
        sizes: list[int] = []
        for dim in dims:
            sizes += self.stars[dim.name] if isinstance(dim, ast.Star) else [self._size(dim)]
        return tuple(sizes)

    def _size(self, dim: ast.Dim) -> int:
        if isinstance(dim, ast.Factor):
            return self.factors[dim.name]
        if isinstance(dim, ast.Fixed):
            return dim.size
        if isinstance(dim, ast.Anything):
            return _SMALLEST
        parts = [self._size(part) for part in dim.parts]  # type: ignore[union-attr]  # no star is inside of a dim
        return sum(parts) if isinstance(dim, ast.Sum) else prod(parts)


@frozen
class _Drawing:
    """The calls of one target that one signature describes."""

    rule: ast.Rule
    signature: ast.Signature
    name: str
    target: Callable[..., Any]
    takes: Callable[[Example], str | None]

    def calls(self) -> list[Example]:
        """A few calls that the operation takes."""
        found: list[Example] = []
        complaint = "nothing could be drawn"
        for number, lengths in enumerate(self._star_lengths()):
            example, said = self._first_taken(lengths, number)
            complaint = said or complaint
            if example is not None:
                found += filter(
                    _has_axes, [example, *self._without(lengths, example), *self._with_more(example)]
                )
            if len(found) >= _CALLS:
                break
        if not found:
            raise ValueError(complaint)
        return found

    def _star_lengths(self) -> Iterator[dict[str, int]]:
        """How many axes each star stands for: first the same number for all, then all mixtures of few."""
        names = [name[1:] for name in self._factors() if name[0] == "*"]
        alike = {one.factor: one.argument[1:] for one in self._wheres() if one.argument.startswith("*")}
        own = [name for name in names if name not in alike]
        same = [(number,) * len(own) for number in (1, 2, 3, 0)]
        for lengths in dict.fromkeys([*same, *product((1, 2, 0), repeat=len(own))]):
            if sum(lengths) <= _AXES:
                known = dict(zip(own, lengths))
                yield {**known, **{name: known[other] for name, other in alike.items()}}

    def _first_taken(self, lengths: Mapping[str, int], seed: int) -> tuple[Example | None, str | None]:
        """The first call that the operation takes, or else what it said of the first that it did not take."""
        complaint = None
        tries = [(0, kind) for kind in _KINDS] + [(attempt, _KINDS[0]) for attempt in range(1, _ATTEMPTS)]
        for attempt, kind in tries:
            example = self._drawn(lengths, kind, random.Random(f"{seed} {attempt}"), optional=True)
            said = self.takes(example)
            if said is None:
                return example, None
            complaint = complaint or said
        return None, complaint

    def _without(self, lengths: Mapping[str, int], taken: Example) -> Iterator[Example]:
        """The same without its optional operands."""
        if any(operand.optional for operand in self.signature.inputs):
            kind = next(item.dtype for item in _tensors(taken))
            bare = (
                self._drawn(lengths, kind, random.Random(seed), optional=False) for seed in range(_ATTEMPTS)
            )
            yield from islice((one for one in bare if self.takes(one) is None), 1)

    def _with_more(self, taken: Example) -> Iterator[Example]:
        """The same with tensors of which the rule says nothing, where the operation takes some."""
        named = {**dict(zip(argument_names(self.target) or (), taken.args)), **taken.kwargs}
        spoken = {operand.name for operand in self.signature.inputs}
        for name in tensor_arguments(self.target):
            if name not in named and name not in spoken:
                sizes = dict.fromkeys(size for item in _tensors(taken) for size in item.shape)
                kind = next(_tensors(taken)).dtype
                more = (_tensor((size,), kind, random.Random(size)) for size in sizes)
                calls = (called(self.name, self.target, {**named, name: one}) for one in more)
                yield from islice((one for one in calls if self.takes(one) is None), 1)

    def _drawn(
        self, lengths: Mapping[str, int], kind: torch.dtype, generator: random.Random, optional: bool
    ) -> Example:
        """One call: sizes, then tensors, then the arguments of which ``where`` and ``at`` speak."""
        shapes = self._sizes(lengths, generator)
        arguments: dict[str, Any] = {}
        for operand in self.signature.inputs:
            if operand.optional and not optional:
                continue
            name = operand.name or (argument_names(self.target) or ("input",))[0]
            one = _tensor(shapes.of(operand.dims), kind, generator)
            arguments[name] = [one, _tensor(one.shape, kind, generator)] if operand.many else one
        for where in self._wheres():
            if not where.argument.startswith("*"):
                sizes = shapes.stars[where.factor] if where.star else shapes.factors[where.factor]
                _set(arguments, where.argument, sizes)
        for at in (clause for clause in self.rule.clauses if isinstance(clause, ast.At)):
            position, rank = self._position(at.factor, lengths)
            arguments[at.argument] = generator.choice((position, position - rank))
        return called(self.name, self.target, arguments)

    def _sizes(self, lengths: Mapping[str, int], generator: random.Random) -> _Shapes:
        """Distinct sizes for all factors; axes behind stars may share theirs, which keeps tensors small."""
        plain = [name for name in self._factors() if name[0] != "*"]
        sizes = list(range(_SMALLEST, _SMALLEST + max(len(plain), _AXES)))
        generator.shuffle(sizes)
        factors = dict(zip(plain, sizes))
        given: dict[str, int] = {}  # factors of which the same argument is the size
        for where in self._wheres():
            if not where.star:
                factors[where.factor] = given.setdefault(where.argument, factors[where.factor])
        return _Shapes(factors, {name: tuple(generator.sample(sizes, n)) for name, n in lengths.items()})

    def _position(self, factor: str, lengths: Mapping[str, int]) -> tuple[int, int]:
        """The axis that a factor has in the first operand that has it, and how many axes that one has."""
        for operand in self.signature.inputs:
            counts = [lengths[dim.name] if isinstance(dim, ast.Star) else 1 for dim in operand.dims]
            for index, dim in enumerate(operand.dims):
                if factor in names_in(dim):
                    return sum(counts[:index]), sum(counts)
        return 0, 1

    def _factors(self) -> list[str]:
        """All factors of the signature in order, stars marked."""
        operands = self.signature.inputs + self.signature.outputs
        return list(dict.fromkeys(name for one in operands for dim in one.dims for name in names_in(dim)))

    def _wheres(self) -> list[ast.Where]:
        return [clause for clause in self.rule.clauses if isinstance(clause, ast.Where)]


def _tensors(example: Example) -> Iterator[Tensor]:
    for item in [*example.args, *example.kwargs.values()]:
        yield from (one for one in (item if isinstance(item, list) else [item]) if isinstance(one, Tensor))


def _has_axes(example: Example) -> bool:
    return any(item.dim() for item in _tensors(example))


def _set(arguments: dict[str, Any], path: str, size: Any) -> None:
    """Put a size at ``groups`` or ``kernel_size[0]``."""
    name, _, index = path.partition("[")
    if not index:
        arguments[name] = size
        return
    place = int(index.rstrip("]"))
    known = list(arguments.get(name, ()))
    known += [1] * (place + 1 - len(known))
    known[place] = size
    arguments[name] = tuple(known)


def _tensor(shape: Sequence[int], kind: torch.dtype, generator: random.Random) -> Tensor:
    """Random numbers between -0.9 and 0.9, which most functions of torch take."""
    torch_generator = torch.Generator().manual_seed(generator.randrange(2**31))
    numbers = torch.rand(tuple(shape), generator=torch_generator, dtype=torch.float64) * 1.8 - 0.9
    if kind is torch.bool:
        return numbers > 0
    return (numbers * 9 if kind is torch.int64 else numbers).to(kind)
