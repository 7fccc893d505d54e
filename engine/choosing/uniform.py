"""The same number everywhere: groups of one role and size shrink as one bundle.

A config says one width for all of its blocks; a model keeps it only if all of them keep as many slots.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

from ..grouping import Groups
from .bundles import Bundle
from .kinds import Kinds
from .options import Options
from .selection import as_bundle


def merged(graph: Groups, bundles: Sequence[Bundle], options: Options) -> list[Bundle]:
    """The bundles, those as one that are to keep the same number, in order."""
    kinds = Kinds(graph)
    alike: dict[Hashable, list[Bundle]] = defaultdict(list)
    for bundle in bundles:
        alike[bundle.whole, frozenset((kinds.role(group), group.size) for group in bundle.groups)].append(
            bundle
        )
    return [_one(graph, found, options) for found in alike.values()]


def _one(graph: Groups, bundles: Sequence[Bundle], options: Options) -> Bundle:
    if len(bundles) == 1:
        return bundles[0]
    groups = [group for bundle in bundles for group in bundle.groups]
    return as_bundle(graph, groups, options)
