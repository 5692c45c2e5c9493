"""Settings for all tests: eight CPU devices, fast compilation, and checks of shapes.

Shapes and types are checked at run time where the environment sets CHECK_SHAPES.
"""

import contextlib
import gc
import inspect
import os
import pathlib
import platform
import shutil
import tempfile

import pytest

# JAX reads these variables once, when it first looks for devices.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ["JAX_PLATFORMS"] = "cpu"
# Tracing makes many objects. Looking for garbage among them took 7 % of the time of the tests.
gc.set_threshold(200_000, 20, 50)

SETTING = "jax_disable_most_optimizations"


@pytest.fixture(autouse=True, scope="session")
def compiled_programs(request):
    """Reuse the programs that earlier runs of the tests compiled.

    The tests of the registered fusions take 28 s of CPU time instead of 66 s.

    JAX does not write the entries of its cache atomically. So each process has a directory of its
    own, with links to the entries of earlier runs, and adds its new ones when it ends.
    """
    import jax  # after the variables above

    if not hasattr(request.config, "cache"):  # with `-p no:cacheprovider`
        yield
        return
    # Programs of another machine may have instructions that this one lacks.
    kept = request.config.cache.mkdir("compiled_programs") / platform.node()
    kept.mkdir(exist_ok=True)
    own = pathlib.Path(tempfile.mkdtemp(prefix="running-", dir=kept))
    for entry in kept.glob("*-cache"):
        os.link(entry, own / entry.name)
    jax.config.update("jax_compilation_cache_dir", str(own))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # The directory of the caches of XLA would be part of the keys of programs.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    yield
    for entry in own.glob("*-cache"):
        with contextlib.suppress(FileExistsError):
            os.link(entry, kept / entry.name)
    shutil.rmtree(own)


@pytest.fixture(autouse=True, scope="module")
def compile_fast(request):
    """Compile without LLVM's optimizations, which take two thirds of the time.

    Most tests compile much and compute little. Except if the environment sets the option, as
    `make test-optimized` does to test the programs that users run, and in modules marked
    `optimized`, which compute longer than they compile.
    """
    import jax  # after the variables above

    if SETTING.upper() in os.environ or request.node.get_closest_marker("optimized"):
        yield
        return
    jax.config.update(SETTING, True)
    yield
    jax.config.update(SETTING, False)


if os.environ.get("CHECK_SHAPES"):
    import jax
    import jaxtyping
    import numpy as np

    from tests import shape_checks

    # Some tests pass NumPy arrays, which JAX takes in place of its own.
    jaxtyping.Array = jax.Array | np.ndarray
    jaxtyping.install_import_hook("aff_jax", f"{shape_checks.__name__}.check")

    @pytest.fixture(autouse=True)
    def no_shape_checks_of_invalid_arguments(request):
        """Let a test that expects an error see the error of the function itself."""
        function = getattr(request, "function", None)
        disable = request.node.get_closest_marker("wrong_types") is not None
        if function is not None:
            disable |= "pytest.raises" in inspect.getsource(function)
        jaxtyping.config.update("jaxtyping_disable", disable)
        yield
        jaxtyping.config.update("jaxtyping_disable", False)
