"""The examples in the docstrings give what stands below them."""

import doctest
import importlib
import pkgutil

import prunus
import pytest

# What reads files as they are here, or runs when it is imported, is no module of the package.
OUTSIDE = ("benchmarks", "docs", "examples", "tests", "build", "__main__")


def with_examples():
    """Every module of the package that has examples, with them."""
    names = [one.name for one in pkgutil.walk_packages(prunus.__path__, "prunus.", onerror=print)]
    inside = [name for name in names if name.split(".")[1] not in OUTSIDE]
    finder = doctest.DocTestFinder(exclude_empty=True)
    for module in map(importlib.import_module, inside):
        yield from (found for found in finder.find(module, module.__name__) if found.examples)


EXAMPLES = {found.name: found for found in with_examples()}


def test_the_two_ways_in_have_examples():
    """Those that users call first."""
    assert {"prunus.engine.analyze.analyze", "prunus.engine.prune.prune"} <= EXAMPLES.keys()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("examples", EXAMPLES.values(), ids=EXAMPLES)
def test_the_examples_of_a_docstring(examples):
    """One after the other, in the module's own names."""
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(examples).failed == 0
