"""Examples in docstrings give what stands below them."""

import doctest
import importlib

import pytest

from docs.markdown_docstrings import public_modules

FINDER = doctest.DocTestFinder(exclude_empty=True)
EXAMPLES = [
    test
    for name in public_modules()
    for test in FINDER.find(importlib.import_module(name), name)
    if test.examples
]


def test_there_are_examples_of_what_most_people_call_first():
    found = {test.name.rpartition(".")[2] for test in EXAMPLES}
    assert found >= {"AFF", "create_model", "freeze", "from_torch", "fusion_weights"}


@pytest.mark.parametrize("test", EXAMPLES, ids=lambda test: test.name)
def test_an_example_gives_what_it_says(test):
    outcome = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert outcome.attempted
    assert not outcome.failed
