"""What no program can be faster than: bytes over bandwidth, or operations over arithmetic rate.

Both rates are measured in the run that they are compared with: a copy of an array too large for
any cache, and a product of large square matrices.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = ["AFF_ARRAYS", "Floors", "Work", "attention_work", "measure_floors"]


class Work(NamedTuple):
    """Bytes that move between memory and chip, and floating-point operations."""

    bytes: float
    flops: float


class Floors(NamedTuple):
    """Rates of a device: bytes/s of a copy, FLOP/s of a matrix product."""

    bandwidth: float
    arithmetic: float

    def seconds(self, work: Work) -> float:
        """Of whichever of the two takes longer, the other hidden behind it."""
        return max(work.bytes / self.bandwidth, work.flops / self.arithmetic)


class Arrays(NamedTuple):
    """How many arrays of the size of x a forward pass moves.

    `streamed`: the pooled pass reads its inputs, the second pass reads them again and writes the
    result. `cached`: what the pooled pass read is still on the chip.
    """

    streamed: int
    cached: int


AFF_ARRAYS = {"MSCAM": Arrays(3, 2), "AFF": Arrays(5, 3), "IAFF": Arrays(7, 3)}
"""By module. IAFF pools the first fusion as well, which depends on all of the first pooled pass."""


def attention_work(
    module: str, shape: Sequence[int], itemsize: int, reduction: int = 4, cached: bool = False
) -> Work:
    """The least that the forward pass of a frozen module with that input must do.

    With N values of which C are channels, and h = C / reduction: the products of the local branch,
    4 N h for each reading of M, and the weights of both branches, 4 C h, read once.
    """
    values, channels = math.prod(shape), shape[-1]
    hidden = max(1, channels // reduction)
    readings = 2 if module == "IAFF" else 1
    arrays = AFF_ARRAYS[module].cached if cached else AFF_ARRAYS[module].streamed
    weights = readings * 4 * channels * hidden
    return Work(itemsize * (arrays * values + weights), readings * 4 * values * hidden)


def measure_floors(dtype: Any, megabytes: int = 1024, side: int = 8192) -> Floors:
    """Both rates of the default device."""
    key = jax.random.key(0)
    length = megabytes * 2**20 // jnp.dtype(dtype).itemsize
    copied = jnp.ones(length, dtype)
    copy_seconds = _best(jax.jit(lambda a: a + 1), copied)
    matrix = jax.random.normal(key, (side, side), dtype)
    product_seconds = _best(jax.jit(jnp.matmul), matrix, matrix)
    return Floors(2 * megabytes * 2**20 / copy_seconds, 2 * side**3 / product_seconds)


def _best(function: Callable[..., Any], *inputs: Any, repeats: int = 10) -> float:
    """Seconds of the fastest call: a floor is no average."""
    taken = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        jax.block_until_ready(function(*inputs))
        taken.append(time.perf_counter() - started)
    return min(taken[1:])
