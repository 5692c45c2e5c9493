"""The examples in docstrings give the output that they show."""

import doctest
import importlib

import pytest

from tests.docs.public_names import public_modules

FINDER = doctest.DocTestFinder(exclude_empty=True)
EXAMPLES = [
    test
    for name in public_modules()
    for test in FINDER.find(importlib.import_module(name), name)
    if test.examples
]


def test_most_used_names_have_examples():
    found = {test.name.rpartition(".")[2] for test in EXAMPLES}
    assert found >= {"AFF", "create_model", "freeze", "from_torch", "fusion_weights"}


@pytest.mark.slow
@pytest.mark.parametrize("test", EXAMPLES, ids=lambda test: test.name)
def test_example_gives_its_output(test):
    outcome = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    assert outcome.attempted
    assert not outcome.failed
