"""``einsum``: a sum of products that its equation tells."""

from __future__ import annotations

from collections.abc import Iterable

from ...axes import Layout
from ...tracing import Value
from ..call_site import Misfit, Site
from ..coupled import CallMacs, Place


def einsum(site: Site) -> None:
    """``einsum``: every letter is a factor; ``out`` are those of one operand and the result."""
    equation = site.argument("equation")
    if not isinstance(equation, str):
        raise Misfit("an equation that is not text")
    result, operands = site.result(), _flat(site.argument("operands"))
    left, arrow, right = equation.replace(" ", "").partition("->")
    if not arrow:
        once = (letter for letter in sorted(set(left) - set(",.")) if left.count(letter) == 1)
        right = ("..." if "..." in left else "") + "".join(once)
    known: dict[str, Layout] = {}
    places: dict[str, list[Place]] = {}
    for subscript, operand in zip(left.split(","), operands):
        for axis, letter in enumerate(_letters(subscript, len(operand.shape))):
            layout = site.axes(operand)[axis]
            if letter not in known or known[letter].size == 1:
                known[letter] = layout
            elif layout.size != 1:
                site.unify(known[letter], layout)
            places.setdefault(letter, []).append((operand, axis))
    made = _letters(right, len(result.shape))
    site.give(result, [known[letter] for letter in made])
    for axis, letter in enumerate(made):
        places[letter].append((result, axis))
    for letter, layout in known.items():
        site.factors[letter] = [layout]
        site.couple(letter, places[letter], layout)
        site.placed.append((letter, layout, tuple(places[letter])))
    site.terms = (tuple(operands),)
    if len(operands) > 1:
        site.coupled.macs.append(CallMacs(site.call, (tuple(known.values()),)))
    site.factors["out"] = [known[letter] for letter in made if len(places[letter]) == 2]


def _letters(subscript: str, rank: int) -> list[str]:
    """The letters of one operand; the axes of an ellipsis are numbered from the right."""
    if "..." not in subscript:
        return list(subscript)
    before, after = subscript.split("...")
    dots = rank - len(before) - len(after)
    return [*before, *(f".{number}" for number in range(-dots, 0)), *after]


def _flat(found: object) -> list[Value]:
    if isinstance(found, Value):
        return [found]
    return [value for one in found for value in _flat(one)] if isinstance(found, Iterable) else []
