"""All tests of steps compile longer than they compute."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def compilation(fast_compilation):
    """Compile without most optimizations."""
