"""Random programs over integer tensors whose axes have layouts, for the law of the axis algebra."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

import numpy as np
from hypothesis import strategies as st
from prunus.engine.axes.layout import UNIT, Atom, Layout, Reason, atoms, block, mask, product, total
from prunus.engine.axes.unify import Unifier
from prunus.engine.sizes.equations import size_of

Size = Callable[[Layout], int]
Run = Callable[[list[np.ndarray], Size], np.ndarray]

SIZES = (1, 2, 3, 4, 6, 8, 12)
LARGEST_INPUT = 200
LARGEST = 600
MOST_VALUES = 24
MOST_AXES = 5


class Program:
    """A straight line of steps; every value is an array with the layouts of its axes.

    A step is remembered as a function of the arrays before it and of the sizes that layouts have, so that
    it can be run again on smaller arrays.
    """

    def __init__(self) -> None:
        self.unifier = Unifier()
        self.arrays: list[np.ndarray] = []
        self.layouts: list[list[Layout]] = []
        self.lines: list[str] = []
        self._runs: list[Run | None] = []

    def __repr__(self) -> str:
        return "\n" + "\n".join(f"    v{number} = {line}" for number, line in enumerate(self.lines))

    def shape(self, x: int) -> tuple[int, ...]:
        """The shape of a value."""
        return self.arrays[x].shape

    def input(self, shape: Sequence[int]) -> int:
        """A tensor of random numbers with an atom of its own for every axis."""
        array = np.random.default_rng(len(self.arrays)).integers(1, 2**40, tuple(shape))
        layouts = [UNIT if size == 1 else Atom(size) for size in shape]
        return self._add(f"input{tuple(shape)}", array, layouts, None)

    def reshape(self, x: int, sizes: Sequence[int]) -> int:
        """Row-major, under another shape."""
        layouts = self.unifier.regroup(self.layouts[x], sizes)
        return self._step(
            f"v{x}.reshape{tuple(sizes)}",
            layouts,
            lambda arrays, size: arrays[x].reshape([size(layout) for layout in layouts]),
        )

    def transpose(self, x: int, order: Sequence[int]) -> int:
        """The axes in another order."""
        layouts = [self.layouts[x][axis] for axis in order]
        return self._step(
            f"v{x}.transpose{tuple(order)}", layouts, lambda arrays, size: arrays[x].transpose(order)
        )

    def split(self, x: int, axis: int, sizes: Sequence[int]) -> list[int]:
        """An axis cut into consecutive pieces; chunks and slices are such pieces."""
        rest, pieces = self.layouts[x][axis], []
        for size in sizes[:-1]:
            piece, rest = self.unifier.cut(rest, size)
            pieces.append(piece)
        pieces.append(rest)
        return [self._piece(x, axis, pieces, number) for number in range(len(pieces))]

    def _piece(self, x: int, axis: int, pieces: list[Layout], number: int) -> int:
        def run(arrays: list[np.ndarray], size: Size) -> np.ndarray:
            start = sum(map(size, pieces[:number]))
            return arrays[x].take(range(start, start + size(pieces[number])), axis)

        sizes = [piece.size for piece in pieces]
        text = f"v{x}.split({sizes}, axis={axis})[{number}]"
        return self._step(text, self._with(x, axis, pieces[number]), run)

    def cat(self, xs: Sequence[int], axis: int) -> int:
        """Values one after the other along an axis; their other axes are the same."""
        for other in xs[1:]:
            self._unify(xs[0], other, but=axis)
        layouts = self._with(xs[0], axis, total([self.layouts[x][axis] for x in xs]))
        return self._step(
            f"cat({_names(xs)}, axis={axis})",
            layouts,
            lambda arrays, size: np.concatenate([arrays[x] for x in xs], axis),
        )

    def stack(self, xs: Sequence[int], axis: int) -> int:
        """Values side by side on a new axis, which nothing may shrink."""
        for other in xs[1:]:
            self._unify(xs[0], other)
        layouts = list(self.layouts[xs[0]])
        layouts.insert(axis, Atom(len(xs), Reason("the operands of a stack")))
        return self._step(
            f"stack({_names(xs)}, axis={axis})",
            layouts,
            lambda arrays, size: np.stack([arrays[x] for x in xs], axis),
        )

    def unbind(self, x: int, axis: int) -> list[int]:
        """One value for every slot of an axis, which therefore stays."""
        block(self.layouts[x][axis], Reason("picked by number"))
        layouts = [layout for number, layout in enumerate(self.layouts[x]) if number != axis]
        return [
            self._step(
                f"v{x}.unbind({axis})[{slot}]",
                layouts,
                lambda arrays, size, slot=slot: arrays[x].take(slot, axis),
            )
            for slot in range(self.shape(x)[axis])
        ]

    def repeat(self, x: int, axis: int, copies: Layout, interleave: bool) -> int:
        """An axis repeated whole (copies outermost), or slot by slot (copies innermost)."""
        old = self.layouts[x][axis]
        layouts = self._with(x, axis, product([old, copies] if interleave else [copies, old]))

        def run(arrays: list[np.ndarray], size: Size) -> np.ndarray:
            if interleave:
                return arrays[x].repeat(size(copies), axis)
            return np.tile(
                arrays[x], [size(copies) if number == axis else 1 for number in range(arrays[x].ndim)]
            )

        verb = "repeat_interleave" if interleave else "repeat"
        return self._step(f"v{x}.{verb}({copies!r}, axis={axis})", layouts, run)

    def roll(self, x: int, axis: int, by: int) -> int:
        """The last `by` slots of an axis come first."""
        layout = self.layouts[x][axis]
        head, tail = self.unifier.cut(layout, layout.size - by)
        layouts = self._with(x, axis, total([tail, head]))
        return self._step(
            f"v{x}.roll({by}, axis={axis})",
            layouts,
            lambda arrays, size: np.roll(arrays[x], size(tail), axis),
        )

    def add(self, x: int, y: int) -> int:
        """The sum; axes of size 1 are broadcast."""
        return self._elementwise(x, y, np.add, "+")

    def multiply(self, x: int, y: int) -> int:
        """The product of the numbers; axes of size 1 are broadcast."""
        return self._elementwise(x, y, np.multiply, "*")

    def _elementwise(self, x: int, y: int, operation: Callable, sign: str) -> int:
        layouts = []
        for one, other in zip(self.layouts[x], self.layouts[y], strict=True):
            if one.size == other.size:
                self.unifier.unify(one, other)
            layouts.append(one if one.size > 1 else other)
        return self._step(f"v{x} {sign} v{y}", layouts, lambda arrays, size: operation(arrays[x], arrays[y]))

    def _unify(self, x: int, y: int, but: int | None = None) -> None:
        for axis, (one, other) in enumerate(zip(self.layouts[x], self.layouts[y], strict=True)):
            if axis != but:
                self.unifier.unify(one, other)

    def _with(self, x: int, axis: int, layout: Layout) -> list[Layout]:
        return [layout if number == axis else old for number, old in enumerate(self.layouts[x])]

    def _step(self, line: str, layouts: list[Layout], run: Run) -> int:
        return self._add(line, run(self.arrays, lambda layout: layout.size), layouts, run)

    def _add(self, line: str, array: np.ndarray, layouts: list[Layout], run: Run | None) -> int:
        assert array.shape == tuple(layout.size for layout in layouts), line
        self.lines.append(line)
        self.arrays.append(array)
        self.layouts.append(layouts)
        self._runs.append(run)
        return len(self.arrays) - 1

    def atoms(self) -> list[Atom]:
        """All atoms of all values, each once."""
        found = (atom for layouts in self.layouts for layout in layouts for atom in atoms(layout))
        return list(dict.fromkeys(found))

    def check(self, kept: dict[Atom, np.ndarray]) -> None:
        """The law: what the program makes of the sliced inputs is the slice of what it makes of them."""

        def size(layout: Layout) -> int:
            return size_of(layout, lambda atom: int(kept[atom].sum()) if atom in kept else atom.size)

        smaller: list[np.ndarray] = []
        for number, run in enumerate(self._runs):
            masks = [mask(layout, kept.get) for layout in self.layouts[number]]
            expected = self.arrays[number][np.ix_(*masks)]
            smaller.append(expected if run is None else run(smaller, size))
            np.testing.assert_array_equal(smaller[-1], expected, err_msg=f"v{number} = {self.lines[number]}")


def _names(xs: Sequence[int]) -> str:
    return f"[{', '.join(f'v{x}' for x in xs)}]"


@st.composite
def kept_slots(draw: st.DrawFn, found: Sequence[Atom]) -> dict[Atom, np.ndarray]:
    """A mask for every free atom, with at least one slot."""
    masks = {}
    for atom in found:
        if atom.reason is None:
            bits = draw(st.integers(1, 2**atom.size - 1))
            masks[atom] = np.array([bits >> slot & 1 for slot in range(atom.size)], bool)
    return masks


@st.composite
def factorings(draw: st.DrawFn, size: int, most: int = 4) -> list[int]:
    """A shape of `size` slots."""
    sizes = [1] * draw(st.integers(1, most))
    for prime in _primes(size):
        sizes[draw(st.integers(0, len(sizes) - 1))] *= prime
    return sizes


def _primes(size: int) -> list[int]:
    found, prime = [], 2
    while size > 1:
        while size % prime == 0:
            found.append(prime)
            size //= prime
        prime += 1
    return found


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """One to three inputs and up to eight random steps; whatever does not fit is left out."""
    program = Program()
    shape: list[int] = []
    for size in draw(st.lists(st.sampled_from(SIZES), min_size=1, max_size=4)):
        shape.append(size if prod(shape) * size <= LARGEST_INPUT else 1)
    program.input(shape)
    for _ in range(draw(st.integers(0, 2))):
        # Inputs of one size under different shapes can be reshaped to one another and added.
        program.input(draw(factorings(prod(shape))))
    for _ in range(draw(st.integers(1, 8))):
        if len(program.arrays) < MOST_VALUES:
            draw(st.sampled_from(STEPS))(draw, program, draw(st.integers(0, len(program.arrays) - 1)))
    return program


def _reshape(draw: st.DrawFn, program: Program, x: int) -> None:
    program.reshape(x, draw(factorings(program.arrays[x].size)))


def _transpose(draw: st.DrawFn, program: Program, x: int) -> None:
    program.transpose(x, draw(st.permutations(range(program.arrays[x].ndim))))


def _axis(draw: st.DrawFn, program: Program, x: int) -> int:
    return draw(st.integers(0, program.arrays[x].ndim - 1))


def _split(draw: st.DrawFn, program: Program, x: int) -> None:
    axis = _axis(draw, program, x)
    size = program.shape(x)[axis]
    if size > 1:
        places = draw(st.sets(st.integers(1, size - 1), min_size=1, max_size=3))
        bounds = [0, *sorted(places), size]
        program.split(x, axis, [after - before for before, after in pairwise(bounds)])


def _chunks_and_cat(draw: st.DrawFn, program: Program, x: int) -> None:
    """The chunks of an axis, some of them, joined again in some order."""
    axis = _axis(draw, program, x)
    chunks = [count for count in (2, 3, 4) if program.shape(x)[axis] % count == 0]
    if chunks:
        count = draw(st.sampled_from(chunks))
        pieces = program.split(x, axis, [program.shape(x)[axis] // count] * count)
        chosen = draw(st.lists(st.sampled_from(pieces), min_size=1, max_size=4))
        program.cat(chosen, _axis(draw, program, x))


def _cat(draw: st.DrawFn, program: Program, x: int) -> None:
    axis = _axis(draw, program, x)
    others = [y for y in range(len(program.arrays)) if _agree(program.shape(x), program.shape(y), axis)]
    xs = [x, *draw(st.lists(st.sampled_from(others), max_size=2))]
    if sum(program.arrays[y].size for y in xs) <= LARGEST:
        program.cat(xs, axis)


def _agree(one: tuple[int, ...], other: tuple[int, ...], but: int) -> bool:
    return len(one) == len(other) and all(one[axis] == other[axis] for axis in range(len(one)) if axis != but)


def _stack(draw: st.DrawFn, program: Program, x: int) -> None:
    same = [y for y in range(len(program.arrays)) if program.shape(x) == program.shape(y)]
    xs = [x, *draw(st.lists(st.sampled_from(same), min_size=1, max_size=2))]
    if program.arrays[x].ndim < MOST_AXES and program.arrays[x].size * len(xs) <= LARGEST:
        program.stack(xs, draw(st.integers(0, program.arrays[x].ndim)))


def _unbind(draw: st.DrawFn, program: Program, x: int) -> None:
    axis = _axis(draw, program, x)
    if program.arrays[x].ndim > 1 and program.shape(x)[axis] <= 4:
        program.unbind(x, axis)


def _repeat(draw: st.DrawFn, program: Program, x: int) -> None:
    count = draw(st.sampled_from((2, 3)))
    if program.arrays[x].size * count <= LARGEST:
        copies = Atom(count, draw(st.sampled_from((None, Reason("a number of copies")))))
        program.repeat(x, _axis(draw, program, x), copies, draw(st.booleans()))


def _roll(draw: st.DrawFn, program: Program, x: int) -> None:
    axis = _axis(draw, program, x)
    if program.shape(x)[axis] > 1:
        program.roll(x, axis, draw(st.integers(1, program.shape(x)[axis] - 1)))


def _shuffle(draw: st.DrawFn, program: Program, x: int) -> None:
    """Channel shuffles, several in a row."""
    axis = _axis(draw, program, x)
    shape = program.shape(x)
    groups = [size for size in (2, 3, 4, 6) if shape[axis] % size == 0 and shape[axis] > size]
    if groups:
        for _ in range(draw(st.integers(1, 4))):
            x = shuffle(program, x, axis, draw(st.sampled_from(groups)))


def shuffle(program: Program, x: int, axis: int, groups: int) -> int:
    """The channel shuffle of ShuffleNet."""
    shape = program.shape(x)
    grouped = program.reshape(x, [*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :]])
    order = list(range(len(shape) + 1))
    order[axis], order[axis + 1] = axis + 1, axis
    return program.reshape(program.transpose(grouped, order), shape)


def _combine(draw: st.DrawFn, program: Program, x: int) -> None:
    """Two values of one size, brought to one shape, in which axes made in different ways meet."""
    size = program.arrays[x].size
    y = draw(st.sampled_from([y for y in range(len(program.arrays)) if program.arrays[y].size == size]))
    shape = draw(st.one_of(st.just(program.shape(x)), factorings(size, most=2)))
    x, y = (one if program.shape(one) == tuple(shape) else program.reshape(one, shape) for one in (x, y))
    draw(st.sampled_from((program.add, program.multiply)))(x, y)


def _broadcast(draw: st.DrawFn, program: Program, x: int) -> None:
    """A value scaled by one of its slices of size 1."""
    axis = _axis(draw, program, x)
    if program.shape(x)[axis] > 1:
        first, _ = program.split(x, axis, [1, program.shape(x)[axis] - 1])
        program.multiply(x, first)


STEPS = (
    _reshape,
    _transpose,
    _split,
    _chunks_and_cat,
    _cat,
    _stack,
    _unbind,
    _repeat,
    _roll,
    _shuffle,
    _combine,
    _combine,
    _broadcast,
)
