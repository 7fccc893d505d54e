"""Long lists of names in texts for users."""

from __future__ import annotations

from collections.abc import Sequence


def listing(names: Sequence[str], shown: int) -> str:
    """The first few names, and how many more there are."""
    left = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {left:,} more" if left > 0 else "")
