"""Fast compilation for the library's tests, which compile much and compute little."""

import os

import jax
import pytest

SETTING = "jax_disable_most_optimizations"


@pytest.fixture(autouse=True, scope="module")
def compile_fast(request):
    """Compile without LLVM's optimizations, which take two thirds of the time.

    Except if the environment sets the option, as CI does to test the programs that users run, and
    in modules marked `optimized`, which compute longer than they compile.
    """
    if SETTING.upper() in os.environ or request.node.get_closest_marker("optimized"):
        yield
        return
    jax.config.update(SETTING, True)
    yield
    jax.config.update(SETTING, False)
