"""These tests spend most of their time compiling, so their programs are compiled quickly."""

import os

import jax
import pytest

OPTION = "jax_disable_most_optimizations"


@pytest.fixture(autouse=True, scope="module")
def compile_quickly():
    """Disable most of XLA's and LLVM's optimizations, which halves the time.

    The environment variable of the same name has priority. CI uses it to test optimized programs.
    """
    if OPTION.upper() in os.environ:
        yield
        return
    jax.config.update(OPTION, True)
    yield
    jax.config.update(OPTION, False)
