"""The library's tests compile much and compute little, so their programs are made quickly."""

import os

import jax
import pytest

SETTING = "jax_disable_most_optimizations"


@pytest.fixture(autouse=True, scope="module")
def made_quickly(request):
    """Compile without LLVM's optimisations, which takes two thirds of the time.

    Unless the environment has a say, as in CI, where programs are those that users run; and but for
    modules marked `optimised`, which compute longer than they compile.
    """
    if SETTING.upper() in os.environ or request.node.get_closest_marker("optimised"):
        yield
        return
    jax.config.update(SETTING, True)
    yield
    jax.config.update(SETTING, False)
