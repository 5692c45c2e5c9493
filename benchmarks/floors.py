"""Lower bounds of the time of a computation, called floors, by the roofline model.

A program cannot be faster than its bytes over the memory bandwidth, or its operations over the
arithmetic rate. Both rates are measured in the same run: the bandwidth by a copy of an array that
is too large for any cache, and the arithmetic rate by a product of large square matrices.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["AFF_ARRAYS", "Arrays", "Floors", "Work", "attention_work", "measure_floors"]


class Work(NamedTuple):
    """The work of a computation.

    Attributes:
        bytes: Bytes moved between memory and chip.
        flops: Floating-point operations.
    """

    bytes: float
    flops: float


class Floors(NamedTuple):
    """The rates of a device.

    Attributes:
        bandwidth: Bytes/s of a copy, read and written.
        arithmetic: FLOP/s of a matrix product.
    """

    bandwidth: float
    arithmetic: float

    def seconds(self, work: Work) -> float:
        """Return the lower bound of the time of a computation.

        Args:
            work: Bytes and operations of the computation.

        Returns:
            Seconds: the larger of both times, since they can overlap.
        """
        return max(work.bytes / self.bandwidth, work.flops / self.arithmetic)


class Arrays(NamedTuple):
    """Number of arrays of the size of x that a forward pass moves.

    Attributes:
        streamed: Number if the second pass reads the inputs again, after the pass that pools them.
        cached: Number if the second pass finds the inputs on the chip.
    """

    streamed: int
    cached: int


AFF_ARRAYS = {"MSCAM": Arrays(3, 2), "AFF": Arrays(5, 3), "IAFF": Arrays(7, 3)}
"""Arrays by module. IAFF also pools its first fusion, which depends on the first pooled mean."""


def attention_work(
    module: str, shape: Sequence[int], itemsize: int, reduction: int = 4, cached: bool = False
) -> Work:
    """Return the least work of the forward pass of a frozen module.

    For an input of N values with C channels and h = C / reduction, each iteration of the attention
    has 4 N h FLOPs in the local branch and 4 C h weights in both branches, which are read once.

    Args:
        module: Name in `AFF_ARRAYS`.
        shape: Shape of an input, channels last.
        itemsize: Bytes of a value.
        reduction: Reduction of the attention.
        cached: True if the second pass finds the inputs on the chip.

    Returns:
        Bytes and operations of one forward pass.
    """
    values, channels = math.prod(shape), shape[-1]
    hidden = max(1, channels // reduction)
    iterations = 2 if module == "IAFF" else 1
    arrays = AFF_ARRAYS[module].cached if cached else AFF_ARRAYS[module].streamed
    weights = iterations * 4 * channels * hidden
    return Work(itemsize * (arrays * values + weights), iterations * 4 * values * hidden)


def measure_floors(dtype: Any, megabytes: int = 1024, side: int = 8192) -> Floors:
    """Measure the rates of the default device.

    Args:
        dtype: Dtype of the arrays.
        megabytes: Size of the copied array in MiB.
        side: Number of rows and columns of the matrices.

    Returns:
        Rates of the fastest of ten runs.
    """
    key = jax.random.key(0)
    length = megabytes * 2**20 // jnp.dtype(dtype).itemsize
    copied = jnp.ones(length, dtype)
    copy_seconds = _fastest(jax.jit(lambda a: a + 1), copied)
    matrix = jax.random.normal(key, (side, side), dtype)
    product_seconds = _fastest(jax.jit(jnp.matmul), matrix, matrix)
    return Floors(2 * megabytes * 2**20 / copy_seconds, 2 * side**3 / product_seconds)


def _fastest(function: Callable[..., Any], *inputs: Any, repeats: int = 10) -> float:
    """Return the seconds of the fastest call. A lower bound must not be an average."""
    taken = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        jax.block_until_ready(function(*inputs))
        taken.append(time.perf_counter() - started)
    return min(taken[1:])
