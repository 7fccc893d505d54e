"""Draws calls that a signature describes: distinct sizes for all factors, and tensors of those sizes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

import torch
from attrs import frozen
from torch import Tensor

from ..grammar import ast
from ..grammar.validate import names_in
from .examples import Example
from .signatures import argument_names, tensor_arguments

_SMALLEST = 3  # an axis that loses a slot must not become one of size 1, which broadcasts
_ATTEMPTS = 8
_AXES = 3  # as many behind stars in all: every axis makes the tensors larger
_CALLS = 6  # as many calls as there are tried of one target
_KINDS = (torch.float64, torch.float32, torch.bfloat16, torch.bool, torch.int64, torch.complex128)


def draw(rule: ast.Rule, target: Callable[..., Any], takes: Callable[[Example], str | None]) -> list[Example]:
    """Calls of `target` as the signature of `rule` describes them.

    `takes` runs a call and returns what is wrong with it, if anything. Sizes, numbers of axes behind stars,
    positions and dtypes are varied until a few calls were taken.

    Raises `ValueError` with what the operation said if it took none.
    """
    found: list[Example] = []
    complaint = "nothing could be drawn"
    for number, lengths in enumerate(_star_lengths(rule)):
        example, said = _first_taken(rule, target, lengths, number, takes)
        complaint = said or complaint
        if example is not None:
            found += [
                one for one in [example, *_variants(rule, target, lengths, example, takes)] if _has_axes(one)
            ]
        if len(found) >= _CALLS:
            break
    if not found:
        raise ValueError(complaint)
    return found


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
        parts = [self._size(part) for part in dim.parts]  # type: ignore[union-attr]
        return sum(parts) if isinstance(dim, ast.Sum) else prod(parts)


def _signature(rule: ast.Rule) -> ast.Signature:
    assert isinstance(rule.body, ast.Signature)
    return rule.body


def _star_lengths(rule: ast.Rule) -> Iterator[dict[str, int]]:
    """How many axes each star stands for: first the same number for all, then all mixtures of few."""
    signature = _signature(rule)
    operands = signature.inputs + signature.outputs
    names = dict.fromkeys(
        name[1:] for one in operands for dim in one.dims for name in names_in(dim) if name[0] == "*"
    )
    alike = {one.factor: one.argument[1:] for one in _wheres(rule) if one.argument.startswith("*")}
    own = [name for name in names if name not in alike]
    same = [(number,) * len(own) for number in (1, 2, 3, 0)]
    mixtures = dict.fromkeys([*same, *product((1, 2, 0), repeat=len(own))])
    for lengths in [one for one in mixtures if sum(one) <= _AXES]:
        known = dict(zip(own, lengths))
        yield {**known, **{name: known[other] for name, other in alike.items()}}


def _wheres(rule: ast.Rule) -> list[ast.Where]:
    return [clause for clause in rule.clauses if isinstance(clause, ast.Where)]


def _first_taken(
    rule: ast.Rule, target: Callable[..., Any], lengths: Mapping[str, int], seed: int, takes: Callable
) -> tuple[Example | None, str | None]:
    """The first call that the operation takes, or else what it said of the first that it did not take."""
    complaint = None
    tries = [(0, kind) for kind in _KINDS] + [(attempt, _KINDS[0]) for attempt in range(1, _ATTEMPTS)]
    for attempt, kind in tries:
        example = _drawn(rule, target, lengths, kind, random.Random(f"{seed} {attempt}"), optional=True)
        said = takes(example)
        if said is None:
            return example, None
        complaint = complaint or said
    return None, complaint


def _variants(
    rule: ast.Rule, target: Callable[..., Any], lengths: Mapping[str, int], taken: Example, takes: Callable
) -> Iterator[Example]:
    """The same without optional operands, and with tensors where the rule names none."""
    if any(operand.optional for operand in _signature(rule).inputs):
        kind = next(item.dtype for item in _tensors(taken))
        for attempt in range(_ATTEMPTS):
            bare = _drawn(rule, target, lengths, kind, random.Random(attempt), optional=False)
            if takes(bare) is None:
                yield bare
                break
    named = _named(target, taken)
    for name in tensor_arguments(target):
        if name not in named and name not in {operand.name for operand in _signature(rule).inputs}:
            for size in dict.fromkeys(size for item in _tensors(taken) for size in item.shape):
                more = _tensor((size,), next(_tensors(taken)).dtype, random.Random(size))
                example = _called(target, {**named, name: more})
                if takes(example) is None:
                    yield example
                    break


def _tensors(example: Example) -> Iterator[Tensor]:
    for item in [*example.args, *example.kwargs.values()]:
        yield from (one for one in (item if isinstance(item, list) else [item]) if isinstance(one, Tensor))


def _has_axes(example: Example) -> bool:
    return any(item.dim() for item in _tensors(example))


def _named(target: Callable[..., Any], example: Example) -> dict[str, Any]:
    return {**dict(zip(argument_names(target) or (), example.args)), **example.kwargs}


def _drawn(
    rule: ast.Rule,
    target: Callable[..., Any],
    lengths: Mapping[str, int],
    kind: torch.dtype,
    generator: random.Random,
    optional: bool,
) -> Example:
    """One call: sizes, then tensors, then the arguments of which ``where`` and ``at`` speak."""
    shapes = _sizes(rule, lengths, generator)
    arguments: dict[str, Any] = {}
    for operand in _signature(rule).inputs:
        if operand.optional and not optional:
            continue
        name = operand.name or (argument_names(target) or ("input",))[0]
        one = _tensor(shapes.of(operand.dims), kind, generator)
        arguments[name] = [one, _tensor(one.shape, kind, generator)] if operand.many else one
    for where in _wheres(rule):
        if not where.argument.startswith("*"):
            _set(
                arguments,
                where.argument,
                shapes.stars[where.factor] if where.star else shapes.factors[where.factor],
            )
    for at in (clause for clause in rule.clauses if isinstance(clause, ast.At)):
        position, rank = _position(rule, at.factor, lengths)
        arguments[at.argument] = generator.choice((position, position - rank))
    return _called(target, arguments)


def _sizes(rule: ast.Rule, lengths: Mapping[str, int], generator: random.Random) -> _Shapes:
    """Distinct sizes for all factors; axes behind stars may share theirs, which keeps tensors small."""
    signature = _signature(rule)
    operands = signature.inputs + signature.outputs
    names = dict.fromkeys(name for one in operands for dim in one.dims for name in names_in(dim))
    plain = [name for name in names if name[0] != "*"]
    sizes = list(range(_SMALLEST, _SMALLEST + max(len(plain), _AXES)))
    generator.shuffle(sizes)
    factors = dict(zip(plain, sizes))
    given: dict[str, int] = {}  # factors of which the same argument is the size
    for where in _wheres(rule):
        if not where.star:
            factors[where.factor] = given.setdefault(where.argument, factors[where.factor])
    return _Shapes(factors, {name: tuple(generator.sample(sizes, n)) for name, n in lengths.items()})


def _position(rule: ast.Rule, factor: str, lengths: Mapping[str, int]) -> tuple[int, int]:
    """The axis that a factor has in the first operand that has it, and how many axes that one has."""
    for operand in _signature(rule).inputs:
        opened = [
            dim for dim in operand.dims for _ in range(lengths[dim.name] if isinstance(dim, ast.Star) else 1)
        ]
        for axis, dim in enumerate(opened):
            if factor in names_in(dim):
                return axis, len(opened)
    return 0, 1


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


def _called(target: Callable[..., Any], arguments: Mapping[str, Any]) -> Example:
    """By position as far as there is no gap, as some callables take nothing else; the rest by name."""
    args = []
    rest = dict(arguments)
    for name in argument_names(target) or ():
        if name not in rest:
            break
        args.append(rest.pop(name))
    written = [*map(_shown, args), *(f"{name}={_shown(item)}" for name, item in rest.items())]
    return Example(target, tuple(args), rest, f"{getattr(target, '__name__', target)}({', '.join(written)})")


def _shown(item: Any) -> str:
    if isinstance(item, Tensor):
        return f"[{' '.join(map(str, item.shape))}]"
    return f"[{', '.join(map(_shown, item))}]" if isinstance(item, list) else repr(item)


def _tensor(shape: Sequence[int], kind: torch.dtype, generator: random.Random) -> Tensor:
    """Random numbers between -0.9 and 0.9, of which no function of torch has too many it does not take."""
    torch_generator = torch.Generator().manual_seed(generator.randrange(2**31))
    numbers = torch.rand(tuple(shape), generator=torch_generator, dtype=torch.float64) * 1.8 - 0.9
    return (
        (numbers * 9).to(kind)
        if kind is torch.int64
        else numbers > 0
        if kind is torch.bool
        else numbers.to(kind)
    )
