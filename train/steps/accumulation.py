"""Gradient accumulation: process a batch in microbatches to save memory."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree

__all__ = ["accumulate"]

Sums = TypeVar("Sums")


def accumulate(
    function: Callable[[PyTree, PyTree], tuple[Sums, PyTree]],
    batch_stats: PyTree,
    examples: PyTree,
    count: int,
) -> tuple[Sums, PyTree]:
    """Sum `function(batch_stats, microbatch)` over `count` equal microbatches, in order.

    The results are::

        sums_k, batch_stats_k = function(batch_stats_(k-1), examples_k)
        sums = sum over k of sums_k

    Each microbatch is normalized with its own statistics and passes the running statistics to the
    next one. With several devices, the k-th microbatches of all devices form one batch for
    synchronized batch norm. Without batch norm, sums over examples equal sums over the whole batch.
    This function uses `lax.scan`, because `optax.MultiSteps` and `optax.microbatching` do not carry
    the running statistics.

    Args:
        function: Maps running statistics and a microbatch to sums over its examples and the new
            running statistics.
        batch_stats: Running statistics of batch norm.
        examples: Arrays with the same leading axis, which `count` must divide.
        count: Number of microbatches.

    Returns:
        The sums, and the running statistics after the last microbatch.
    """
    if count == 1:
        return function(batch_stats, examples)
    microbatches = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), examples)
    first = jax.tree.map(lambda x: x[0], microbatches)
    shapes, _ = jax.eval_shape(function, batch_stats, first)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def add(carry: tuple[Sums, PyTree], microbatch: PyTree) -> tuple[tuple[Sums, PyTree], None]:
        sums, batch_stats = carry
        terms, batch_stats = function(batch_stats, microbatch)
        return (jax.tree.map(jnp.add, sums, terms), batch_stats), None

    carry, _ = lax.scan(add, (zeros, batch_stats), microbatches)
    return carry
