"""Budgets: the one number to be found with which a plan costs a given fraction of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import frozen

from ..errors import PlanError
from .axes import Atom
from .cost import Count, macs_of, parameters_of, whole
from .groups import Groups
from .latency import Latency, Seconds
from .units import Unit

# How far from a budget a plan may be, as a fraction of the whole model's cost.
TOLERANCE = 0.01
# How near one ratio for all comes before single units are adjusted, and how fine that ratio is.
NEAR, FINE = 0.001, 1e-6


@frozen(eq=False)
class Budget:
    """Keep `fraction` of a cost; ``name`` is the option that says so."""

    name: str
    fraction: float
    seconds: Seconds | None = None

    @classmethod
    def of(cls, name: str, given: object) -> Budget:
        """The budget of an option ``params=``, ``macs=`` or ``latency=``; `PlanError` if it is none."""
        fraction, seconds = given if name == "latency" and isinstance(given, tuple) else (given, None)
        if not isinstance(fraction, (int, float)) or not 0 < fraction <= 1:
            raise PlanError(f"{name} is the fraction to keep, above 0 and up to 1; {fraction!r} is not")
        return cls(name, fraction, seconds)

    def price(self, graph: Groups, varying: set[Atom]) -> Callable[[Count], float]:
        """What the model costs while these atoms shrink, as a fraction of the whole model's cost."""
        if self.name == "latency":
            price: Callable[[Count], float] = Latency(graph, self.seconds)
        else:
            price = (macs_of if self.name == "macs" else parameters_of)(graph).of(varying)
        full = price(whole)
        if not full:
            raise PlanError(f"no call of this model has a cost in {self.name}; give a ratio instead")
        return lambda count: price(count) / full

    def meet(self, graph: Groups, units: Sequence[Unit], shrink: Callable[[float], None]) -> str:
        """Set the units' steps so that the model costs what it may, as nearly as the steps allow.

        `shrink` sets them for one ratio; then single units get some back. Returns a note if that is not near.
        """
        price = self.price(graph, {group.atom for unit in units for group in unit.groups})

        def cost(ratio: float) -> float:
            shrink(ratio)
            return price(counts(units))

        low, high = 0.0, 1.0
        least = cost(high)
        if least > self.fraction + TOLERANCE:
            raise PlanError(
                f"{self.name}={self.fraction} cannot be met: with the fewest slots of every group that may "
                f"be pruned, {least:.1%} of the {self.name} remain"
            )
        while high - low > FINE:
            middle = (low + high) / 2
            low, high = (middle, high) if cost(middle) > self.fraction else (low, middle)
        self._approach(units, cost, price, low, high)
        found = price(counts(units))
        if abs(found - self.fraction) <= TOLERANCE:
            return ""
        return f"{self.name}: {found:.1%} kept, the nearest to {self.fraction:.1%} that sizes and ties allow"

    def _approach(
        self,
        units: Sequence[Unit],
        cost: Callable[[float], float],
        price: Callable[[Count], float],
        low: float,
        high: float,
    ) -> None:
        """Between two ratios that differ in the last step only, take that step in some of the units."""
        above = cost(low)
        more = [unit.steps for unit in units]
        below = cost(high)
        if self.fraction - below <= NEAR:
            return
        for unit, steps in zip(units, more):
            fewer, unit.steps = unit.steps, steps
            found = price(counts(units)) if steps > fewer else below
            if found > self.fraction:
                unit.steps = fewer
            else:
                below = found
        if above - self.fraction < self.fraction - below:
            for unit, steps in zip(units, more):
                unit.steps = steps


def counts(units: Sequence[Unit]) -> Count:
    """How many slots are kept of an atom."""
    kept = {group.atom: unit.kept(group) for unit in units for group in unit.groups}
    return lambda atom: kept.get(atom, atom.size)
