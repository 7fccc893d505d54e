"""Long lists of names in texts for users."""

from __future__ import annotations

from collections.abc import Sequence


def listing(names: Sequence[str], shown: int, of: int | None = None) -> str:
    """The first few names, and how many more there are: `names` may be only the first of so many."""
    left = (len(names) if of is None else of) - shown
    return ", ".join(names[:shown]) + (f" and {left:,} more" if left > 0 else "")
