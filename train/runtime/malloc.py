"""Keep freed memory in the process, which makes steps on a CPU faster."""

import ctypes
import importlib.metadata
import importlib.util
import sys

import jax

__all__ = ["retain_freed_memory", "runs_on_cpu"]

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
"""Parameters of mallopt, from glibc's malloc.h."""

_MAX_INT = 2**31 - 1


def retain_freed_memory() -> bool:
    """Configure glibc so that it does not return freed memory to the system.

    XLA allocates the temporary arrays of a step again in each step. By default glibc returns large
    arrays to the system as soon as they are freed. The system then clears and maps every page again
    in the next step, which takes up to half of a fusion's time. With this setting the process keeps
    the memory of its largest step.

    Call this before JAX starts its threads. A thread gets its own heap at its first allocation, and
    the setting does not apply to the heaps of other threads. JAX cannot be asked for its devices at
    that time, so this has an effect only where JAX is configured for the CPU, for example by
    `JAX_PLATFORMS=cpu`, or has no other plugin installed. It has no effect without glibc.

    Returns:
        True if the setting was applied.

    References:
        mallopt(3).
    """
    if not sys.platform.startswith("linux") or not runs_on_cpu():
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # musl has neither the file nor the function
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _MAX_INT), (_M_ARENA_MAX, 1))
    return all(mallopt(parameter, value) for parameter, value in settings)


def runs_on_cpu() -> bool:
    """Return whether JAX can only use the CPU, without initializing its backends."""
    platforms: str | None = jax.config.jax_platforms  # type: ignore[attr-defined]
    if platforms:
        return platforms.split(",")[0] == "cpu"
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    return not plugins and importlib.util.find_spec("libtpu") is None
