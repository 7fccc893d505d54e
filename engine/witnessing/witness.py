"""The second trace of a model, with other sizes: a witness for what the first one cannot see.

A size can become a number in more ways than any integer can follow (``0.5 * n``, ``str(n)``, numpy). So the
forward is recorded once more with few slots of every group, and compared call by call. Whatever moved
without an expression is a size in disguise. Further traces, each with some of the groups, tell whose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, count
from math import comb, isclose

import numpy as np
from attrs import define, field, frozen

from ...adapters.collector import paused
from ...adapters.masking import mask
from ...adapters.plan import Plan
from ...adapters.trying import tried
from ...errors import PlanError, TraceError, raise_foreign
from ..axes import Atom, Reason, block
from ..choosing import Bundle, counts, keep_more, kept_slots, make_plan
from ..coupling import Couplings
from ..grouping import Groups
from ..tracing import Origin, Trace, locate_error
from .differences import Difference, differences

Steps = Callable[[int, Bundle], int]


def _few(number: int, bundle: Bundle) -> int:
    """A quarter, which is cheap, and other odd numbers for each: little else comes out as it was then."""
    return max(2, round(bundle.whole / 4) // 2 * 2 + 1 + 2 * (number % 3))


def _half(number: int, bundle: Bundle) -> int:
    """As many as are kept by default: what fails with these cannot be pruned."""
    return max(2, bundle.whole // 2)


@frozen(eq=False)
class Finding:
    """The atoms whose sizes the forward uses unseen, and how; ``hold`` says that they must stay."""

    atoms: frozenset[Atom]
    reason: Reason
    hold: bool


def findings(graph: Groups, retrace: Callable[[], Trace]) -> list[Finding]:
    """What a trace at other sizes shows that the one of `graph` does not; `retrace` runs the model again.

    The model is as it was afterwards.
    """
    bundles = [bundle for bundle in _bundles(graph) if any(group.producers for group in bundle.groups)]
    return _found(_Witness(graph, retrace), bundles)


def findings_at(graph: Groups, plan: Plan, retrace: Callable[[], Trace]) -> list[Finding]:
    """What a trace at the sizes of `plan` shows besides: a number may move at some sizes, and not at others.

    Whether the model runs at all, verification tells.
    """

    def planned(_: int, bundle: Bundle) -> int:
        group = bundle.groups[0]
        return len(plan.groups[group.name]) * bundle.whole // group.size

    bundles = [bundle for bundle in _bundles(graph) if bundle.groups[0].name in plan.groups]
    found = _found(_Witness(graph, retrace, planned), bundles, failures=False)
    return [one for one in found if one.hold or any(map(graph.is_exact, one.atoms))]


def _found(witness: _Witness, bundles: list[Bundle], failures: bool = True) -> list[Finding]:
    """What differs with few slots of bundles, then of those that have nothing to do with it, and so on."""
    found: list[Finding] = []
    while bundles:
        seen = witness.differences(bundles)
        if not seen or (_FAILED in seen and not failures):
            break
        culprits = witness.culprits(bundles, seen)
        found += [_finding(one, culprits[one.key]) for one in seen.values()]
        guilty = set().union(*culprits.values())
        bundles = [bundle for bundle in bundles if bundle not in guilty]
    return found


@paused()
def is_as_told(graph: Groups, plan: Plan, second: Trace) -> bool:
    """Whether a trace at the sizes of `plan` shows nothing that the one of `graph` does not say of them."""
    seen = differences(graph, second, graph.whole_count(kept_slots(graph, plan)))
    return not any(_matters(graph, one) for one in seen)


def untrusted(graph: Groups, retrace: Callable[[], Trace]) -> set[tuple[int, str]]:
    """Which of the plain numbers that `graph` takes for sizes do not follow, by call and argument."""
    free = {
        literal: {atom for one in equations for atom in graph.sizes.free(one.right)}
        for literal, equations in graph.coupled.trusted.items()
    }
    atoms = set().union(*free.values())
    bundles = [bundle for bundle in _bundles(graph) if atoms & bundle.atoms]
    moved = set().union(*(bundle.atoms for bundle in bundles))
    seen = _Witness(graph, retrace).differences(bundles) if bundles else {}
    lines = {one.where for one in seen.values()}
    there = {literal for literal in free if graph.trace.calls[literal[0]].source in lines}
    unmoved = {literal for literal, own in free.items() if not own & moved}
    return unmoved | (there or (free.keys() if seen else set()))


def heed(found: Sequence[Finding], coupled: Couplings) -> None:
    """Hold the atoms of findings that decide what is done; those of the others are not exact."""
    for one in found:
        if one.hold:
            for atom in one.atoms:
                block(atom, one.reason)
        else:
            coupled.disguised.append((one.atoms, one.reason))


def _bundles(graph: Groups) -> list[Bundle]:
    bundles = [Bundle.of(tied, multiples=graph.multiples) for tied in graph.tied()]
    return [bundle for bundle in bundles if bundle.least < bundle.whole]


def _finding(difference: Difference, bundles: set[Bundle]) -> Finding:
    atoms = frozenset[Atom]().union(*(bundle.atoms for bundle in bundles))
    where = f" at {difference.where.short}" if difference.where else ""
    what = "its size is used as a number" if difference.number else "its size decides what is done"
    reason = Reason(f"{what}{where} ({difference.text})", difference.origin or difference.where)
    return Finding(atoms, reason, not difference.number)


@define(eq=False)
class _Witness:
    """Traces a model with few slots of some bundles, and compares."""

    graph: Groups
    retrace: Callable[[], Trace]
    steps: Steps | None = None
    _by_chance: set | None = field(default=None)

    @paused()
    def differences(self, bundles: Sequence[Bundle]) -> dict[tuple, Difference]:
        """What is different with few slots of `bundles`, by key; what data or chance moves does not count."""
        for steps in [self.steps] if self.steps else (_few, _half):
            try:
                plan, kept = _sizes(self.graph, bundles, steps)
            except PlanError:  # the code lets nothing go
                return {}
            found = self._compare(plan, kept)
            if _FAILED not in found:
                break
        self.steps = self.steps or steps
        if found and self._by_chance is None:
            self._by_chance = set(self._zeroed(plan))
        not_sizes = (self._by_chance or set()) - self._moved_by_both(found, plan)
        return {key: one for key, one in found.items() if key not in not_sizes and _matters(self.graph, one)}

    def _compare(self, plan: Plan, kept: Callable[[Atom], int]) -> dict[tuple, Difference]:
        try:
            with tried(self.graph.model, plan):
                second = self.retrace()
        except Exception as error:  # whatever it is, with these sizes the model cannot be had
            raise_foreign(error)
            return {_FAILED: _failure(error.__cause__ or error)}
        return {one.key: one for one in differences(self.graph, second, self.graph.whole_count(kept))}

    def _zeroed(self, plan: Plan) -> dict[tuple, Difference]:
        """What moves although all sizes are as they were: the slots that go are only zeroed."""
        try:
            with mask(self.graph.model, plan):
                second = self.retrace()
        except TraceError as error:
            raise_foreign(error)
            return {}
        return {one.key: one for one in differences(self.graph, second, lambda atom: atom.size)}

    def _moved_by_both(self, found: Mapping[tuple, Difference], plan: Plan) -> set[tuple]:
        """The numbers read from data that are others than with zeroed slots, and not by chance."""
        read = [key for key in found if key in (self._by_chance or ()) and found[key].number]
        if not read:
            return set()
        zeroed, again = self._zeroed(plan), self._zeroed(plan)
        steady = [key for key in read if key in zeroed and key in again and _near(zeroed[key], again[key])]
        return {key for key in steady if not _near(zeroed[key], found[key])}

    def culprits(
        self, bundles: Sequence[Bundle], found: Mapping[tuple, Difference]
    ) -> dict[tuple, set[Bundle]]:
        """For each difference the bundles on whose sizes it depends, or more of them where that is not clear.

        Every bundle shrinks in half of the traces, no two in the same ones. It is cleared of a difference by
        a trace in which it shrinks and the difference does not show. One that depends on a single bundle is
        thereby left with that one.
        """
        suspects = {key: set(bundles) for key in found}
        traces = next(number for number in count(0) if comb(number, number // 2) >= len(bundles))
        marks = list(zip(bundles, combinations(range(traces), traces // 2)))
        for number in range(traces):
            some = [bundle for bundle, those in marks if number in those]
            seen = self.differences(some)
            for key, those in suspects.items():
                if key not in seen and _FAILED not in seen:
                    those.difference_update(some)
        # What shows only where several shrink at once has cleared all of them.
        return {key: those or set(bundles) for key, those in suspects.items()}


def _matters(graph: Groups, difference: Difference) -> bool:
    """Whether somebody looks at what is computed with a number."""
    origin = difference.origin
    return not (difference.number and isinstance(origin, Origin)) or origin.call in graph.coupled.live


def _near(one: Difference, other: Difference) -> bool:
    """Whether numbers are the same, but for rounding."""
    numbers = isinstance(one.now, (int, float)) and isinstance(other.now, (int, float))
    return not numbers or isclose(one.now, other.now, rel_tol=0.01, abs_tol=1e-6)


_FAILED = ("failed",)


def _failure(error: BaseException) -> Difference:
    return Difference(
        _FAILED, f"{type(error).__name__}: {error}".splitlines()[0], locate_error(error.__traceback__)
    )


def _sizes(graph: Groups, bundles: Sequence[Bundle], steps: Steps) -> tuple[Plan, Callable[[Atom], int]]:
    """A plan in which `bundles` keep about these steps, and how many slots it keeps."""
    for number, bundle in enumerate(bundles):
        bundle.steps = bundle.rounded(min(steps(number, bundle), bundle.whole - 1))
    keep_more(graph, bundles)
    kept = {group.atom: np.arange(bundle.kept(group)) for bundle in bundles for group in bundle.groups}
    return make_plan(graph, kept), counts(bundles)
