"""A few of the tries of ``python -m chaos --kind rule_texts``: rule texts that are spoilt."""

import pytest
from chaos.rule_texts import run


@pytest.mark.parametrize("seed", range(2))
def test_a_spoilt_rule_text_is_understood_or_refused_with_one_short_error(seed):
    tallies = run(seed, 30)
    assert [tally.first for tally in tallies if tally.broken] == []
    assert [tally.tried for tally in tallies] == [30] * 5
