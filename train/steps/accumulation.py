"""Gradients of a batch that is too large to be differentiated at once, microbatch by microbatch."""

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
    statistics: PyTree,
    examples: PyTree,
    count: int,
) -> tuple[Sums, PyTree]:
    """Sums of `function(statistics, microbatch)` over `count` equal parts of `examples`, in order.

        sums_k, statistics_k = function(statistics_(k-1), examples_k)
        -> sum over k of sums_k, statistics_count

    `statistics`, the running ones of batch norm, go from one microbatch to the next, which is
    normalised with its own: to a batch norm, a batch in 4 parts is 4 batches, and with several
    devices the k-th of them is what all have for their k-th part. All else is as for the whole
    batch, where the sums are over examples.

    Shapes: every array of `examples` has the same leading axis, which `count` divides.
    """
    if count == 1:
        return function(statistics, examples)
    parts = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), examples)
    of_one, _ = jax.eval_shape(function, statistics, jax.tree.map(lambda x: x[0], parts))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), of_one)

    def add(carry: tuple[Sums, PyTree], part: PyTree) -> tuple[tuple[Sums, PyTree], None]:
        sums, statistics = carry
        more, statistics = function(statistics, part)
        return (jax.tree.map(jnp.add, sums, more), statistics), None

    total, _ = lax.scan(add, (zeros, statistics), parts)
    return total
