"""Every verb by its name.

Each reads one call through its `Site`, gives the results their layouts, and records which axes it related,
so that relations are explained like any other rule.
"""

from __future__ import annotations

from collections.abc import Callable

from ..call_site import Misfit, Site
from .arranging import drop, expand, flip, insert, new, pad, permute, regroup, repeat, roll
from .contracting import einsum
from .indexing import assign, find, index, narrow, select
from .joining import split, stack, unbind
from .reducing import reduce, remake
from .windows import strided


def lower(site: Site) -> None:
    """Calls that the trace records as the simple calls they stand for never come here whole."""
    raise Misfit("it was not lowered while tracing")


# What these make has the numbers that they are given, in other places.
MOVES = frozenset(
    [
        *("split", "regroup", "permute", "index", "narrow", "select", "expand", "repeat"),
        *("stack", "unbind", "insert", "drop", "roll", "flip"),
    ]
)

VERBS: dict[str, Callable[[Site], None]] = {
    verb.__name__: verb
    for verb in (
        split,
        regroup,
        permute,
        index,
        assign,
        narrow,
        select,
        find,
        expand,
        repeat,
        reduce,
        remake,
        stack,
        unbind,
        insert,
        drop,
        pad,
        roll,
        flip,
        strided,
        einsum,
        new,
        lower,
    )
}
