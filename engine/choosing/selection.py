"""Which bundles may be pruned of a model: those that are free, and that the options ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..axes import Atom, atoms, factors
from ..grouping import Group, Groups
from .bundles import Bundle
from .kinds import Kinds
from .options import Options
from .patterns import as_patterns, check_pattern, matches


def bundles_of(graph: Groups, options: Options) -> list[Bundle]:
    """The bundles that are free, wanted, and made by some producer; one for each product of several."""
    return bundles_and_others(graph, options, {})[0]


def bundles_and_others(
    graph: Groups, options: Options, rigid: Mapping[Atom, str]
) -> tuple[list[Bundle], dict[str, str]]:
    """The bundles, and for each group with a producer that is in none the reason, by its name.

    `rigid` atoms are those found to be unable to shrink, and why; the other parts of their products take
    their turn.
    """
    skip, only = as_patterns(options.skip), as_patterns(options.only)
    for option, patterns in (("skip", skip), ("only", only)):
        for pattern in patterns:
            check_pattern(graph, pattern, option)
    of_kind = Kinds(graph, options.kinds, only)

    def why_not(bundle: Bundle) -> str | None:
        for pattern in skip:
            if any(matches(group, pattern) for group in bundle.groups):
                return f"skip={pattern!r}"
        if only and not any(matches(group, pattern) for group in bundle.groups for pattern in only):
            return "not among only="
        for group in bundle.groups:
            if (reason := of_kind.why_not(group)) is not None:
                return reason
            if group.atom in rigid:
                return f"left whole, {rigid[group.atom]}"
            if options.exact_only and not group.exact:
                return "not exact"
        if bundle.whole == 1:
            return "one slot" if len(bundle.groups) == 1 else "tied sizes without a common divisor"
        return None

    bundles: list[Bundle] = []
    left_alone: dict[str, str] = {}
    for bundle in (as_bundle(graph, tied, options) for tied in graph.tied()):
        if not any(group.producers for group in bundle.groups):
            continue
        reason = why_not(bundle)
        if reason is None:
            bundles.append(bundle)
        else:
            left_alone.update((group.name, reason) for group in bundle.groups)
    passed_over = _passed_over(graph, bundles)
    for bundle, other in passed_over.items():
        reason = f"{other.groups[0].name} is pruned in the same axes (prefer={graph.prefer!r})"
        left_alone.update((group.name, reason) for group in bundle.groups)
    return [bundle for bundle in bundles if bundle not in passed_over], left_alone


def as_bundle(graph: Groups, groups: list[Group], options: Options) -> Bundle:
    """Groups as one bundle, of which as much stays, in such steps, as is asked for."""
    return Bundle.of(groups, options.round_to, options.min_keep, graph.multiples)


def _passed_over(graph: Groups, bundles: list[Bundle]) -> dict[Bundle, Bundle]:
    """The bundles that stay whole, and the one that is pruned instead in an axis that is a product of both.

    That is the outer one, unless asked.
    """
    bundle_of = {group.atom: bundle for bundle in bundles for group in bundle.groups}
    passed_over: dict[Bundle, Bundle] = {}
    for whole in graph.products:
        inside = [_bundles_in(atoms(part), bundle_of) for part in factors(whole)]
        if graph.prefer == "inner":
            inside.reverse()
        chosen: dict[Bundle, None] = {}  # in order
        for bundles_inside in inside:
            found = [bundle for bundle in bundles_inside if bundle not in passed_over]
            if not chosen:
                chosen = dict.fromkeys(found)
            else:
                passed_over.update((bundle, next(iter(chosen))) for bundle in found if bundle not in chosen)
    return passed_over


def _bundles_in(found: Iterable[Atom], bundle_of: Mapping[Atom, Bundle]) -> Iterable[Bundle]:
    return dict.fromkeys(bundle_of[atom] for atom in found if atom in bundle_of)
