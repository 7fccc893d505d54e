"""The axis algebra: tables of its operations, and the law that pruning commutes with every program."""

from itertools import combinations
from math import prod
from time import perf_counter

import numpy as np
import pytest
from axis_programs import Program, kept_slots, programs, shuffle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nested_programs import nested_programs
from prunus.engine.axes import layout as axes
from prunus.engine.axes import unify
from prunus.engine.axes.layout import (
    UNIT,
    Atom,
    Product,
    Reason,
    Sum,
    atoms,
    block,
    blocked,
    factors,
    free,
    mask,
    product,
    resolve,
    terms,
)
from prunus.engine.axes.unify import Unifier

LAW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@settings(LAW, max_examples=2000)
@given(programs(), st.data())
def test_pruning_commutes_with_every_program(program, data):
    """P(slice(x)) == slice(P(x)), for any slots of the atoms that are free."""
    program.check(data.draw(kept_slots(program.atoms()), label="kept"))


@settings(LAW, max_examples=500)
@given(nested_programs(), st.data())
def test_nothing_is_blocked_where_everything_nests(program, data):
    """Transpose, nested reshape, cat and split at boundaries need no axis to stay."""
    assert [atom.reason for atom in program.atoms() if atom.reason] == []
    program.check(data.draw(kept_slots(program.atoms()), label="kept"))


@pytest.mark.parametrize("fuel", [1, 2, 3, 5, 9])
def test_programs_are_sound_when_fuel_runs_out(fuel, monkeypatch):
    """What is not followed to its end is blocked, and the law holds all the same."""
    monkeypatch.setattr(unify, "FUEL", fuel)

    @settings(LAW, max_examples=60)
    @given(programs(), st.data())
    def law(program, data):
        program.check(data.draw(kept_slots(program.atoms()), label="kept"))

    law()


def _shared_product():
    part = Atom(3)
    return Product([part, Atom(2), part])


def _shared_sum():
    part = Atom(4)
    return Sum([part, Atom(3), Product([Atom(2), part])])


def _product_of_sums():
    part = Atom(2)
    return Product([Sum([part, Atom(3)]), Sum([Atom(1), part])])


LAYOUTS = {
    "atom": lambda: Atom(7),
    "blocked": lambda: Atom(6, Reason("it stays")),
    "3 x 4": lambda: Product([Atom(3), Atom(4)]),
    "2 x 3 x 2": lambda: Product([Atom(2), Atom(3), Atom(2)]),
    "2 x (3 x 2)": lambda: Product([Atom(2), Product([Atom(3), Atom(2)])]),
    "1 x 6": lambda: Product([Atom(1), Atom(6)]),
    "unit x 6": lambda: Product([UNIT, Atom(6)]),
    "#3 x 4": lambda: Product([Atom(3, Reason("it stays")), Atom(4)]),
    "5 + 7": lambda: Sum([Atom(5), Atom(7)]),
    "4 + 8": lambda: Sum([Atom(4), Atom(8)]),
    "1 + 3 x 3 + 2": lambda: Sum([Atom(1), Product([Atom(3), Atom(3)]), Atom(2)]),
    "(2 + 4) x 2": lambda: Product([Sum([Atom(2), Atom(4)]), Atom(2)]),
    "2 x (2 + 4)": lambda: Product([Atom(2), Sum([Atom(2), Atom(4)])]),
    "a x 2 x a": _shared_product,
    "a + 3 + 2 x a": _shared_sum,
    "(a + 3) x (1 + a)": _product_of_sums,
}


def each_layout(test):
    """Run a test for every layout of the table."""
    return pytest.mark.parametrize("make", LAYOUTS.values(), ids=LAYOUTS)(test)


def some_masks(*layouts, least=1, tries=4):
    """Random masks for the free atoms, with at least `least` slots of each."""
    found = dict.fromkeys(atom for layout in layouts for atom in atoms(layout) if atom.reason is None)
    for seed in range(tries):
        random = np.random.default_rng(seed)
        kept = {atom: random.random(atom.size) < 0.6 for atom in found}
        for own in kept.values():
            own[:least] |= not own.any()
        yield kept.get


@each_layout
def test_cut_is_total(make):
    """A layout can be cut at any slot; the pieces are its slots before and from there, present or not."""
    for at in range(1, make().size):
        layout = make()
        head, tail = Unifier().cut(layout, at)
        assert (head.size, tail.size) == (at, layout.size - at)
        for kept in some_masks(layout, head, tail, least=0):
            pieces = np.concatenate([mask(head, kept), mask(tail, kept)])
            np.testing.assert_array_equal(pieces, mask(layout, kept))


@each_layout
def test_cut_blocks_nothing(make):
    """A cut refines and never makes a slot stay."""
    for at in range(1, make().size):
        layout = make()
        stayed = {atom.reason for atom in atoms(layout)}
        Unifier().cut(layout, at)
        assert {atom.reason for atom in atoms(layout)} == stayed


@each_layout
def test_split_inner_gives_a_product(make):
    """For every divisor, the mask of the whole is the outer `and` of the masks of the two parts."""
    for size in (size for size in range(1, make().size + 1) if make().size % size == 0):
        layout = make()
        high, low = Unifier().split_inner(layout, size)
        assert (high.size, low.size) == (layout.size // size, size)
        for kept in some_masks(layout, high, low):
            both = np.logical_and.outer(mask(high, kept), mask(low, kept)).reshape(-1)
            np.testing.assert_array_equal(both, mask(layout, kept))


TWELVES = [name for name, make in LAYOUTS.items() if make().size == 12]


@pytest.mark.parametrize("one, other", list(combinations(TWELVES, 2)))
def test_unified_layouts_have_one_mask(one, other):
    """Whatever two layouts are, after unification they keep the same slots, in either order."""
    for first, second in ((one, other), (other, one)):
        a, b = LAYOUTS[first](), LAYOUTS[second]()
        Unifier().unify(a, b)
        for kept in some_masks(a, b, least=0):
            np.testing.assert_array_equal(mask(a, kept), mask(b, kept))


@each_layout
def test_spread_agrees_with_masks(make):
    """Without one slot of an atom, an axis lacks exactly the indices that have that slot."""
    layout = make()
    spread = axes.spread(layout)
    assert {UNIT, *spread} == {UNIT, *atoms(layout)}
    for atom, (indices, of_atom) in spread.items():
        for slot in range(atom.size):
            own = np.arange(atom.size) != slot
            gone = np.flatnonzero(~mask(layout, {atom: own}.get))
            assert set(gone) == set(indices[of_atom == slot])


def sizes_of_atoms(layout):
    return [f"{'#' if atom.reason else ''}{atom.size}" for atom in atoms(layout)]


# shape, new shape, and the atoms of each new axis (# for those that must stay)
REGROUPED = [
    ((12,), (3, 4), ["3", "4"]),
    ((3, 4), (12,), ["3 4"]),
    ((2, 6), (4, 3), ["2 2", "3"]),
    ((4, 3), (2, 6), ["2", "2 3"]),
    ((3, 4), (2, 6), ["#2", "#6"]),
    ((1, 6), (6, 1), ["6", "#1"]),
    ((6, 1, 4), (6, 4), ["6", "4"]),
    ((5, 12), (5, 1, 3, 4), ["5", "#1", "3", "4"]),
    ((2, 3, 4, 5), (6, 20), ["2 3", "4 5"]),
    ((1, 1), (1,), ["#1"]),
]


@pytest.mark.parametrize("shape, sizes, expected", REGROUPED)
def test_regroup(shape, sizes, expected):
    """A reshape splits and merges exactly the axes that it has to."""
    layouts = Unifier().regroup([UNIT if size == 1 else Atom(size) for size in shape], sizes)
    assert [" ".join(sizes_of_atoms(layout)) for layout in layouts] == expected


@pytest.mark.parametrize("turned", [False, True], ids=["fixed first", "fixed last"])
@pytest.mark.parametrize("name", TWELVES)
def test_a_fixed_axis_fixes_the_other(name, turned):
    """A side that stays makes the other stay, for the same reason, and needs no structure."""
    reason = Reason("a batch", origin="the call")
    fixed, layout = Product([Atom(5 - 1, reason), Atom(3, reason)]), LAYOUTS[name]()
    before = list(atoms(layout))
    Unifier().unify(*((fixed, layout) if turned else (layout, fixed)))
    assert list(atoms(layout)) == before
    assert blocked(layout) is not None
    assert {atom.reason for atom in before if atom.reason.text != "it stays"} == {reason}


def test_a_fixed_part_fixes_its_counterpart_only():
    """#3 x 4 against 3 x 4: the outer part stays on both sides, the inner is one and free."""
    left, right = [Atom(3, Reason("copies")), Atom(4)], [Atom(3), Atom(4)]
    Unifier().unify(Product(left), Product(right))
    assert right[0].reason == Reason("copies")
    assert resolve(left[1]) is resolve(right[1])
    assert free(right[1])


@pytest.mark.parametrize("turned", [False, True])
def test_a_layout_never_contains_itself(turned):
    """`a` against `m x a`: the presence atom stays, and `a` is as free as before."""
    a, m = Atom(4), Atom(1)
    whole = Product([m, a])
    Unifier().unify(*((whole, a) if turned else (a, whole)))
    assert "contain itself" in m.reason.text
    assert list(atoms(a)) == [a]
    assert free(a)


def test_a_layout_never_contains_itself_by_way_of_another():
    """`a` is `m x b`, and then `b` is to be `n x a`: both presence atoms stay."""
    a, b, m, n = Atom(4), Atom(4), Atom(1), Atom(1)
    unifier = Unifier()
    unifier.unify(a, Product([m, b]))
    unifier.unify(b, Product([n, a]))
    assert m.reason and n.reason
    assert resolve(a) is resolve(b)
    assert free(a)


def test_presence_is_no_unit():
    """A unit drops out of a product; a slot that may go does not."""
    m, a = Atom(1), Atom(4)
    assert factors(Product([UNIT, m, UNIT, a])) == [m, a]
    assert product([UNIT, a]) is a
    assert factors(product([m, a])) == [m, a]
    assert product([UNIT, UNIT]) is UNIT


def test_presence_that_meets_a_unit_stays():
    """A unit is never bound to anything; what is unified with it cannot go."""
    m = Atom(1)
    Unifier().unify(m, UNIT)
    assert m.reason is UNIT.reason
    assert UNIT.bound is None and m.bound is None


def test_presence_atoms_pair_up():
    """`m x 4` against `n x 2 x 2`: one presence for both, wherever it stands."""
    m, n, a = Atom(1), Atom(1), Atom(4)
    left, right = Product([m, a]), Product([Atom(2), n, Atom(2)])
    Unifier().unify(left, right)
    assert resolve(m) is resolve(n)
    assert free(m)
    assert not mask(left, {resolve(m): np.zeros(1, bool)}.get).any()
    assert not mask(right, {resolve(m): np.zeros(1, bool)}.get).any()


def test_left_over_presence_stays():
    """`m x 2 x 2` against `2 x 2`: nothing on the other side could go with `m`."""
    m, parts = Atom(1), [Atom(2) for _ in range(4)]
    Unifier().unify(Product([m, *parts[:2]]), Product(parts[2:]))
    assert m.reason.text == "the other side has no such slot"
    assert all(map(free, parts))


def test_products_that_do_not_nest():
    """3 x 4 against 2 x 6 is blocked on both sides, with both readings and the origin."""
    left, right = [Atom(3), Atom(4)], [Atom(2), Atom(6)]
    Unifier().unify(Product(left), Product(right), "add, model.py:7")
    for atom in left + right:
        assert "3 x 4" in atom.reason.text and "2 x 6" in atom.reason.text
        assert atom.reason.origin == "add, model.py:7"


def test_parts_around_those_that_do_not_nest_stay_free():
    """5 x 3 x 4 x 7 against 5 x 2 x 6 x 7: the outer and the inner part are one on both sides."""
    left, right = ([Atom(size) for size in sizes] for sizes in ((5, 3, 4, 7), (5, 2, 6, 7)))
    Unifier().unify(Product(left), Product(right))
    for place in (0, 3):
        assert resolve(left[place]) is resolve(right[place])
        assert free(left[place])
    assert not any(free(part) for side in (left, right) for part in side[1:3])


def test_sizes_that_differ_are_blocked():
    """Two axes that a wrong rule makes one stay whole, and say so."""
    a, b = Atom(4), Atom(6)
    Unifier().unify(a, b)
    assert a.reason.text == b.reason.text == "sizes 4 and 6 meet"


def test_refinement_reaches_those_who_held_the_atom():
    """Pieces taken earlier see what their atom becomes later."""
    a, unifier = Atom(12), Unifier()
    head, tail = unifier.cut(a, 6)
    unifier.split_inner(a, 3)
    assert sizes_of_atoms(head) == sizes_of_atoms(tail) == ["2", "3"]
    assert factors(head)[1] is factors(tail)[1]
    block(tail, Reason("it stays"))
    assert [part.reason is None for part in factors(head)] == [True, False]


@pytest.mark.parametrize("by", range(1, 12))
def test_an_axis_added_to_itself_rolled(by):
    """Slots that a roll brings together are one: as many stay free as the steps have in common."""
    a, unifier = Atom(12), Unifier()
    head, tail = unifier.cut(a, 12 - by)
    unifier.unify(a, Sum([tail, head]))
    assert {atom.size for atom in atoms(a)} == {np.gcd(12, by)}
    assert len(set(atoms(a))) == 1
    assert len(terms(a)) == 12 // np.gcd(12, by)
    assert free(a)


@pytest.mark.parametrize("channels", [58, 116, 232])
def test_shuffled_channels_end_quickly(channels):
    """Eight blocks of a ShuffleNet: halve, join one half with new channels, shuffle."""
    program = Program()
    x = program.input((2 * channels, 1))
    started = perf_counter()
    for _ in range(8):
        kept, changed = program.split(x, 0, [channels, channels])
        new = program.input(program.shape(changed))
        x = shuffle(program, program.cat([kept, new], 0), 0, 2)
    assert perf_counter() - started < 5
    assert not any("without end" in atom.reason.text for atom in program.atoms() if atom.reason)
    for kept in some_masks(*program.layouts[x]):
        program.check({atom: kept(atom) for atom in program.atoms() if kept(atom) is not None})


def test_fuel_that_runs_out_blocks_what_is_left(monkeypatch):
    """The two sides of what is left stay, say why, and the unifier goes on working."""
    monkeypatch.setattr(unify, "FUEL", 3)
    unifier = Unifier()
    left, right = [Atom(2) for _ in range(6)], [Atom(2) for _ in range(6)]
    unifier.unify(Product(left), Product(right), "here")
    pairs = list(zip(left, right, strict=True))
    ended = [one.reason for one, other in pairs if resolve(one) is not resolve(other)]
    assert ended == [Reason("the two sides refine each other without end", "here")] * len(ended)
    assert 0 < len(ended) < 6
    for kept in some_masks(*left, *right):
        np.testing.assert_array_equal(mask(Product(left), kept), mask(Product(right), kept))

    a, b = Atom(prod((2, 3))), Atom(6)
    unifier.unify(a, b)
    assert resolve(a) is resolve(b) and free(a)
