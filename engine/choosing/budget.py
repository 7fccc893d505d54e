"""Budgets: the one number to be found with which a plan costs a given fraction of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import permutations

from attrs import frozen

from ...errors import PlanError
from ..axes import Atom
from ..grouping import Groups
from .bundles import Bundle
from .cost import Count, Polynomial, macs_of, parameters_of, whole
from .latency import Latency, Seconds

# How far from a budget a plan may be, as a fraction of the whole model's cost.
TOLERANCE = 0.01
# How near is near enough, how fine a ratio is, and how many bundles are set apart to come nearer.
NEAR, FINE, PINNED = 0.001, 1e-6, 8
# How many bundles, and steps of each, are tried one by one where that is not near.
TRIED, STEPS = 12, 32


class UnmetError(PlanError):
    """A budget that cannot be met with what may be pruned."""


@frozen(eq=False)
class Price:
    """What a model costs, as a fraction of the cost of the whole one."""

    of: Latency | Polynomial
    full: float

    def __call__(self, count: Count) -> float:
        """The fraction with `count` slots kept of each atom."""
        return self.of(count) / self.full

    def running(self, count: Count) -> Callable[[Iterable[Atom]], float]:
        """What tells the fraction while numbers change, given the atoms whose numbers have changed."""
        if isinstance(self.of, Latency):
            return lambda changed: self(count)
        running = self.of.running(count)
        return lambda changed: running.after(changed) / self.full


@frozen(eq=False)
class Budget:
    """Keep `fraction` of a cost; ``name`` is the option that says so."""

    name: str
    fraction: float
    seconds: Seconds | None = None

    @classmethod
    def of(cls, name: str, given: object) -> Budget:
        """The budget of an option ``params=``, ``macs=`` or ``latency=``; `PlanError` if it is none."""
        pair = given if name == "latency" and isinstance(given, tuple) else (given, None)
        if len(pair) != 2 or not (pair[1] is None or callable(pair[1])):
            raise PlanError("latency is a fraction to keep, or the pair of that and seconds(call, shapes)")
        fraction, seconds = pair
        if not isinstance(fraction, (int, float)) or not 0 < fraction <= 1:
            raise PlanError(f"{name} is the fraction to keep, above 0 and up to 1; {fraction!r} is not")
        return cls(name, fraction, seconds)

    def price(self, graph: Groups) -> Price:
        """What the model costs with some slots kept, as a fraction of the whole model's cost."""
        if self.name == "latency":
            price: Latency | Polynomial = Latency(graph, self.seconds)
        else:
            varying = {group.atom for group in graph.groups}
            price = (macs_of if self.name == "macs" else parameters_of)(graph).of(varying)
        full = price(whole)
        if not full:
            raise PlanError(f"no call of this model has a cost in {self.name}; give a ratio instead")
        return Price(price, full)

    def meet(self, price: Price, bundles: Sequence[Bundle], shrink: Callable[[float], None]) -> None:
        """Set the bundles' steps so that the model costs what it may, as nearly as the steps allow.

        `shrink` sets them for one ratio. A bundle whose steps are too coarse stays at the nearer one, and the
        ratio is found again for the others. Raises `PlanError` if the fewest slots cost too much.
        """
        search = _Search(self.fraction, bundles, shrink, price, self.name != "latency")
        least = search.cost(1.0)
        if least > self.fraction + TOLERANCE:
            raise UnmetError(
                f"{self.name}={self.fraction} cannot be met: with the fewest slots of every group that may "
                f"be pruned, {least:.1%} of the {self.name} remain"
            )
        search.run()

    def missed(self, price: Price, bundles: Sequence[Bundle]) -> list[str]:
        """What there is to say if the bundles' steps do not meet the budget closely."""
        found = price(counts(bundles))
        if abs(found - self.fraction) <= TOLERANCE:
            return []
        return [
            f"{self.name}: {found:.1%} kept, the nearest to {self.fraction:.1%} found that sizes, ties, "
            "options and the model's own code allow"
        ]


class _Search:
    """Looks for the bundles' steps that cost a fraction, near those that one ratio for all gives."""

    def __init__(
        self,
        fraction: float,
        bundles: Sequence[Bundle],
        shrink: Callable[[float], None],
        price: Price,
        thorough: bool,
    ):
        self._thorough = thorough
        self._fraction = fraction
        self._bundles = bundles
        self._shrink = shrink
        self._price = price
        self._pinned: dict[Bundle, int] = {}
        self._best: tuple[float, list[int]] = (float("inf"), [])

    def cost(self, ratio: float) -> float:
        """What the model costs at a ratio, but for the bundles that are pinned."""
        self._shrink(ratio)
        for bundle, steps in self._pinned.items():
            bundle.steps = steps
        return self._price(counts(self._bundles))

    def run(self) -> None:
        """Set the steps that come nearest."""
        while self._round() and len(self._pinned) < PINNED:
            continue
        if self._thorough and self._best[0] > TOLERANCE:
            self._one_by_one()
        if self._thorough and self._best[0] > TOLERANCE:
            self._exchange()
        for bundle, steps in zip(self._bundles, self._best[1]):
            bundle.steps = steps

    def _round(self) -> bool:
        """Find the ratio, adjust single bundles; pin the coarsest if that is not near. Whether to go on."""
        low, high = 0.0, 1.0
        while high - low > FINE:
            middle = (low + high) / 2
            low, high = (middle, high) if self.cost(middle) > self._fraction else (low, middle)
        self._note(self.cost(low))
        more = [bundle.steps for bundle in self._bundles]
        below = self.cost(high)
        price_after = self._price.running(counting(self._bundles))
        rises: dict[Bundle, tuple[float, int]] = {}
        for bundle, steps in zip(self._bundles, more):
            fewer = bundle.steps
            if steps == fewer:
                continue
            bundle.steps = steps
            found = price_after(bundle.atoms)
            self._note(found)
            rises[bundle] = (
                found - below,
                (steps if found - self._fraction < self._fraction - below else fewer),
            )
            if found > self._fraction:
                bundle.steps = fewer
                price_after(bundle.atoms)
            else:
                below = found
        self._note(below)
        if self._best[0] <= NEAR or not rises:
            return False
        coarsest = max(rises, key=lambda bundle: rises[bundle][0])
        self._pinned[coarsest] = rises[coarsest][1]
        return True

    def _movable(self) -> list[Bundle]:
        """The bundles that a ratio moves, the coarsest first; not more than can be tried."""
        self._shrink(0.0)
        whole = [bundle.steps for bundle in self._bundles]
        self._shrink(1.0)
        found = [bundle for bundle, steps in zip(self._bundles, whole) if bundle.steps < steps]
        return sorted(found, key=lambda bundle: bundle.whole // bundle.every)[:TRIED]

    def _one_by_one(self) -> None:
        """Each coarse bundle at each of its steps, and the ratio found again for the others."""
        for bundle in self._movable():
            for steps in range(bundle.least, bundle.whole + 1, bundle.every)[:STEPS]:
                self._pinned = {bundle: bundle.rounded(steps)}
                self._round()
                if self._best[0] <= TOLERANCE:
                    return

    def _exchange(self) -> None:
        """Near the best: a step of one bundle, or one against another's, as long as that is nearer."""
        movable = self._movable()
        moves = [{bundle: step} for bundle in movable for step in (-1, 1)]
        moves += [{one: 1, other: -1} for one, other in permutations(movable, 2)]
        before: tuple[float, list[int]] | None = None
        while before != self._best:
            before = self._best
            for move in moves:
                for bundle, steps in zip(self._bundles, before[1]):
                    wanted = bundle.rounded(steps + bundle.every * move.get(bundle, 0))
                    bundle.steps = max(bundle.least, min(bundle.whole, wanted))
                self._note(self._price(counts(self._bundles)))

    def _note(self, found: float) -> None:
        if abs(found - self._fraction) < self._best[0]:
            self._best = abs(found - self._fraction), [bundle.steps for bundle in self._bundles]


def counts(bundles: Sequence[Bundle]) -> Count:
    """How many slots are kept of an atom, whatever becomes of the bundles."""
    kept = {group.atom: bundle.kept(group) for bundle in bundles for group in bundle.groups}
    return lambda atom: kept.get(atom, atom.size)


def counting(bundles: Sequence[Bundle]) -> Count:
    """How many slots are kept of an atom at the bundles' steps of the moment."""
    bundles_of = {group.atom: (bundle, group) for bundle in bundles for group in bundle.groups}

    def count(atom: Atom) -> int:
        found = bundles_of.get(atom)
        return atom.size if found is None else found[0].kept(found[1])

    return count
