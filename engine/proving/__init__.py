"""The rules held against the real operations."""

from .check import Checked, check, complaint
from .draft_rule import blank, stub_tried_apart
from .probe import is_recorded
from .unknown import Unknown, unknown_calls, with_stubs
from .verdict import EXACT, HELD, MIXES, SUMS, WRONG

__all__ = [
    "EXACT",
    "HELD",
    "MIXES",
    "SUMS",
    "WRONG",
    "Checked",
    "Unknown",
    "blank",
    "check",
    "complaint",
    "is_recorded",
    "stub_tried_apart",
    "unknown_calls",
    "with_stubs",
]
