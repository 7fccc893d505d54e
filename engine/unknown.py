"""Operations without a fitting rule: never silent, never fatal."""

from __future__ import annotations

from collections import defaultdict

import torch
from attrs import evolve, field, frozen
from torch import nn

from ..rules.examples import called
from .groups import Groups
from .origin import Origin
from .sizes import SizeInt
from .values import Value


@frozen
class Unknown:
    """A call without a rule, or that its rule does not fit, and the axes that this costs."""

    name: str
    reason: str
    source: str
    module: str
    costs: tuple[str, ...]
    origin: Origin = field(repr=False, eq=False)
    model: nn.Module = field(repr=False, eq=False)

    @property
    def stub(self) -> str:
        """A rule to paste into a ``.rules`` file, with the coupling if trial on the operation finds it."""
        from .stub import stub_for  # which analyzes models in its turn

        call = self.origin.call
        given = {name: item for name, item in call.arguments.items() if not name.startswith("self.")}
        example = called(call.name, call.target, {name: _made(item) for name, item in given.items()})
        if isinstance(call.target, type) and issubclass(call.target, nn.Module):
            written = example.text.replace("(", "(...)(", 1)  # nobody knows how it was made
            example = evolve(example, target=self.model.get_submodule(call.module), text=written)
        return stub_for(example)

    def __str__(self) -> str:
        return f"{self.reason}, {self.source}; a rule to start from:\n{self.stub}"


def unknown_calls(graph: Groups) -> list[Unknown]:
    """Calls without a fitting rule, the tensor axes that each alone holds back, and a rule to start from."""
    costs: dict[Origin, list[str]] = defaultdict(list)
    for group in graph.blocked:
        origin = group.atom.reason.origin if group.atom.reason else None
        if isinstance(origin, Origin):
            costs[origin] += [f"{member.tensor}[{member.axis}]" for member in group.members]
    given_up = [(reason.text, reason.origin) for reason in graph.state.unknown]
    return [
        Unknown(
            name=origin.call.name,
            reason=text,
            source=f"{origin.call.source.short}: {origin.call.source.text}",
            module=origin.call.module,
            costs=tuple(dict.fromkeys(costs[origin])),
            origin=origin,
            model=graph.model,
        )
        for text, origin in given_up
        if isinstance(origin, Origin)
    ]


def _made(item: object) -> object:
    """Any tensor in the place of a value, plain numbers in the place of traced ones."""
    if isinstance(item, Value):
        fractions = item.dtype.is_floating_point or item.dtype.is_complex
        return (
            torch.randn(item.shape).to(item.dtype) if fractions else torch.zeros(item.shape, dtype=item.dtype)
        )
    if isinstance(item, (list, tuple)):
        return type(item)(map(_made, item))
    return int(item) if type(item) is SizeInt else item
