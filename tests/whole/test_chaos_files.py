"""A few of the tries of ``python -m chaos --kind files``: lying, damaged and half-written files."""

from __future__ import annotations

import pytest
from chaos.files import KINDS, run


@pytest.mark.parametrize("seed", range(3))
def test_files_of_others_load_as_they_were_saved_or_not_at_all(seed):
    """One clear line for each that is refused, and the model is untouched."""
    tallies = run(seed, 40)
    assert [tally.first for tally in tallies if tally.broken] == []
    assert sum(tally.tried for tally in tallies) == 40 and len(tallies) == len(KINDS)
