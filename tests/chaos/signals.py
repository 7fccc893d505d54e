"""Ctrl-C at any time, wherever Python is, be it in torch or in its own library: as for `injections`."""

from __future__ import annotations

from random import Random

from .disturbances import Signal
from .injections import drawn_case, fault, reference
from .tally import Tally


def run(seed: int, count: int) -> list[Tally]:
    """`count` interrupts of one operation on one network, which `seed` decides."""
    operation, net = drawn_case(seed)
    tally, chance = Tally(f"{operation}, Ctrl-C"), Random(seed)
    seconds = reference(operation, net).seconds
    for _ in range(count):
        tally.count(fault(operation, net, Signal(chance.uniform(1e-5, seconds))))
    return [tally]
