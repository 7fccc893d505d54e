"""The page that tells how prunus works: its examples give what stands below them."""

import doctest
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how_it_works.md"


@pytest.mark.filterwarnings("ignore")
def test_the_examples_give_what_the_page_says():
    """All are run one after the other, as a reader would."""
    text = "\n".join(line for line in PAGE.read_text(encoding="utf-8").splitlines() if "```" not in line)
    examples = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(examples.examples) > 10
    assert doctest.DocTestRunner().run(examples).failed == 0
