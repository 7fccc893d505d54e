"""What users are told of corrections: each thing once, with the weights that it is true of."""

from __future__ import annotations

from attrs import Factory, define

from ..explaining import listing

# Entries for each slot from which on more data hardly make a better estimate, on a language model.
ENTRIES = 4

# Why a weight may be left alone.
WORSE = "estimates from a part of data= are worse than none on the rest"

# So many names are shown.
SHOWN = 3


@define(eq=False)
class Told:
    """Weights by why they are left alone, and how many entries were read of how many slots, if few were."""

    left_alone: dict[str, list[str]] = Factory(dict)
    few: tuple[int, int] | None = None

    def leave(self, weight: str, why: str) -> None:
        """A weight is not corrected."""
        self.left_alone.setdefault(why, []).append(weight)

    def count(self, entries: int, size: int) -> None:
        """An estimate was made: of all, the one with the fewest entries for a slot is told."""
        known = self.few or (ENTRIES, 1)
        if entries * known[1] < known[0] * size:
            self.few = entries, size

    def notes(self) -> list[str]:
        """A line for each thing to tell."""
        found = [
            f"not corrected: {listing(names, SHOWN)}, as {why}" for why, names in self.left_alone.items()
        ]
        if self.few is not None:
            entries, size = self.few
            found.append(
                f"corrections of {size:,} slots are as weak as {entries:,} entries of data= (tokens, "
                f"positions) warrant; with {ENTRIES * size:,} they do more"
            )
        return found
