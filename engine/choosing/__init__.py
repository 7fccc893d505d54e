"""How much of what is kept, and the plan that says so."""

from .budget import Budget, counts
from .bundles import Bundle
from .by_hand import plan_by_hand
from .choose import choose
from .cost import COSTS, Cost, cost_of, macs, macs_of, parameters, whole
from .make_plan import kept_counts, kept_slots, make_plan
from .near import keep_more
from .options import Choice, Options
from .patterns import ByPattern, matches
from .repeated import repeated_notes
from .scopes import scope_of
from .selection import bundles_of
from .unreached import Unreached, check_reached, unreached_notes, unreached_tensors

__all__ = [
    "COSTS",
    "Budget",
    "Bundle",
    "ByPattern",
    "Choice",
    "Cost",
    "Options",
    "Unreached",
    "bundles_of",
    "check_reached",
    "choose",
    "cost_of",
    "counts",
    "keep_more",
    "kept_counts",
    "kept_slots",
    "macs",
    "macs_of",
    "make_plan",
    "matches",
    "parameters",
    "plan_by_hand",
    "repeated_notes",
    "scope_of",
    "unreached_notes",
    "unreached_tensors",
    "whole",
]
