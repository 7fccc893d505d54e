"""Exceptions out of torch's operators and out of the user's own code: what holds for `injections` holds."""

from __future__ import annotations

from random import Random

from .disturbances import Operators, UserCode
from .injections import drawn_case, fault, reference
from .tally import Tally


def run(seed: int, count: int) -> list[Tally]:
    """`count` failures in one operation on one network, which `seed` decides."""
    operation, net = drawn_case(seed)
    tally, chance = Tally(f"{operation}, torch or user fails"), Random(seed)
    known = reference(operation, net)
    for number in range(count):
        way = UserCode.drawn(known.user_code, chance) if number % 2 else None
        if way is None and operation != "load":  # safetensors makes errors of its own of all
            way = Operators.drawn(known.operators, chance)
        if way is not None:
            tally.count(fault(operation, net, way))
    return [tally] if tally.tried else []
