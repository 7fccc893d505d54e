"""Which indices of an axis belong to a slot, as formulas."""

import random
import re
from itertools import product

import numpy as np
import pytest
from prunus.engine.axes.formula import SlotRelation, spread_of
from prunus.engine.axes.layout import Atom, Product, Sum, atoms, mask


def layouts(seed):
    """A random layout of a few atoms, some of which occur twice."""
    dice = random.Random(seed)
    known = [Atom(size) for size in (2, 3, 4)]

    def grow(depth):
        if depth == 0 or dice.random() < 0.3:
            return dice.choice(known)
        return dice.choice([Product, Sum])([grow(depth - 1) for _ in range(dice.randint(2, 3))])

    return grow(dice.randint(1, 3))


@pytest.mark.parametrize("seed", range(150))
def test_a_slot_has_the_indices_that_go_with_it(seed):
    """The formula of an atom in any layout names exactly the indices that dropping a slot removes."""
    layout = layouts(seed)
    for atom in set(atoms(layout)):
        spread = spread_of(layout, atom)
        for slot in range(atom.size):
            without = np.arange(atom.size) != slot
            kept = mask(layout, {atom: without}.get)
            assert spread.of(slot) == np.flatnonzero(~kept).tolist(), (layout, str(spread))


def evaluated(text, i):
    """The indices that a formula has for slot `i`: ``4 i to 4 i + 3``, ``64 k + i (k from 0 to 2)``."""
    formulas, _, ranges = text.partition(" (")
    loops = {letter: range(int(last) + 1) for letter, last in re.findall(r"(\w) from 0 to (\d+)", ranges)}
    found = set()
    for numbers in product(*loops.values()):
        scope = {"i": i, **dict(zip(loops, numbers))}
        for formula in re.split(", | and ", formulas):
            ends = [
                eval(re.sub(r"(\d) ([a-z])", r"\1 * \2", end), {}, scope) for end in formula.split(" to ")
            ]
            found.update(range(ends[0], ends[-1] + 1))
    return sorted(found)


SPREADS = [
    (atom, spread)
    for layout in map(layouts, range(60))
    for atom in dict.fromkeys(atoms(layout))
    if len((spread := spread_of(layout, atom)).runs) == 1
]


@pytest.mark.parametrize("atom, spread", SPREADS, ids=range(len(SPREADS)))
def test_the_printed_formula_says_the_same(atom, spread):
    """Reading the text of a formula as arithmetic gives the indices of every slot."""
    for slot in range(atom.size):
        assert evaluated(str(spread), slot) == spread.of(slot), str(spread)


A, B, C = Atom(6), Atom(4), Atom(5)


@pytest.mark.parametrize(
    "one, other, text",
    [
        (A, A, "slot i of the one is slot i of the other."),
        (A, Sum([B, A]), "slot i of the one goes with slot 4 + i of the other."),
        (Sum([B, A]), A, "slot 4 + i of the one goes with slot i of the other, for i from 0 to 5."),
        (A, Product([A, B]), "slot i of the one goes with slots 4 i to 4 i + 3 of the other."),
        (A, Product([B, A]), "slot i of the one goes with slots 6 k + i (k from 0 to 3) of the other."),
        (A, Product([Atom(2), A]), "slot i of the one goes with slots i and 6 + i of the other."),
        (A, Sum([A, B, A]), "slot i of the one goes with slots i and 10 + i of the other."),
        (A, Product([A, B, C]), "slot i of the one goes with slots 20 i to 20 i + 19 of the other."),
        (
            A,
            Product([C, A, B]),
            "slot i of the one goes with slots 24 k + 4 i to 24 k + 4 i + 3 (k from 0 to 4) of the other.",
        ),
        (Product([A, B]), A, "slot i of the one goes with slot i // 4 of the other."),
        (Product([B, A]), A, "slot i of the one goes with slot i % 6 of the other."),
        (Product([C, A, B]), A, "slot i of the one goes with slot i % 24 // 4 of the other."),
        (Product([A, B]), Sum([C, A]), "slot i of the one goes with slot 5 + i // 4 of the other."),
        (
            Sum([C, Product([A, B])]),
            A,
            "slot i of the one goes with slot (i - 5) // 4 of the other, for i from 5 to 28.",
        ),
        (
            Product([A, B]),
            Product([A, C]),
            "slots 4 i to 4 i + 3 of the one go with slots 5 i to 5 i + 4 of the other.",
        ),
        (
            Product([A, B]),
            Product([A, B]),
            "slots 4 i to 4 i + 3 of the one are slots 4 i to 4 i + 3 of the other.",
        ),
    ],
)
def test_slots_are_related_by_formula(one, other, text):
    """Sums shift, products multiply, and what has several indices for a slot is divided."""
    assert str(SlotRelation(spread_of(one, A), spread_of(other, A))) == text
