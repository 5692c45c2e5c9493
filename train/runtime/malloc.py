"""Memory that is freed stays with the process, which on a CPU makes steps faster."""

import ctypes
import importlib.metadata
import importlib.util
import sys

import jax

__all__ = ["retain_freed_memory", "runs_on_cpu"]

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
LARGEST = 2**31 - 1


def retain_freed_memory() -> bool:
    """Tell glibc not to hand freed arrays back to the system; whether it could be told.

    XLA allocates the temporary arrays of a step anew each time. Large ones glibc returns to the
    system as soon as they are freed, which then has to clear and map every page of them again in
    the next step: up to half of a fusion's time. The process stays as large as it has been at its
    largest.

    To be called before JAX starts its threads: what a thread allocates in a heap of its own, which
    it gets at its first allocation, is returned all the same. So JAX can't be asked what it
    computes on: this is done where it was told to use the CPU, as by `JAX_PLATFORMS=cpu`, or has
    nothing else installed, on Linux with glibc. Elsewhere nothing is done.

    Source: mallopt(3).
    """
    if not sys.platform.startswith("linux") or not runs_on_cpu():
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # musl has neither the file nor the function
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, LARGEST), (M_ARENA_MAX, 1))
    return all(mallopt(parameter, value) for parameter, value in settings)


def runs_on_cpu() -> bool:
    """Whether JAX can only compute there, as far as can be known without starting it."""
    platforms: str | None = jax.config.jax_platforms  # type: ignore[attr-defined]
    if platforms:
        return platforms.split(",")[0] == "cpu"
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    return not plugins and importlib.util.find_spec("libtpu") is None
