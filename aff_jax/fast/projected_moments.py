"""Mean and variance of a matrix product, without the product."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from aff_jax.nn.batch_norm import along_channels, average_over_axis

__all__ = ["gram", "projected_moments"]

EXACT = lax.Precision.HIGHEST
"""Precision of the products. By default, accelerators round the inputs of a product to bfloat16 or
TF32, and a variance would lose its digits."""


def projected_moments(
    x: Float[Array, "*batch inputs"],
    kernel: Float[Array, "inputs channels"],
    axis_name: str | None = None,
) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    """Compute mean and biased variance of `x @ kernel` from those of `x`.

    They are::

        mean = E[x] @ kernel
        var  = diag(kernel^T Cov(x) kernel),  Cov(x) = E[(x - E[x])^T (x - E[x])]

    `x` is centered before it is squared, so a large mean costs no digits. If columns of `x` are
    nearly equal and the kernel takes their difference, digits are lost: the error is of the order
    of the rounding of the squared norm of the kernel times the largest variance in `x`. The
    branches of attention pass normalized values, whose variances are about 1, so that the error is
    below the norm's epsilon.

    Args:
        x: Array `(*batch, inputs)`.
        kernel: Array `(inputs, channels)`.
        axis_name: Mapped axis over which the expectation is taken as well.

    Returns:
        Mean and variance, each `(channels,)`.
    """
    mean, second = first_two_moments(x, axis_name)
    covariance = second - mean[:, None] * mean[None]
    var = jnp.sum(kernel * jnp.matmul(covariance, kernel, precision=EXACT), axis=0)
    return jnp.matmul(mean, kernel, precision=EXACT), jnp.maximum(var, 0)

def first_two_moments(x, axis_name):
    wide = jnp.promote_types(x.dtype, jnp.float32)
    axes = tuple(range(x.ndim - 1))
    rows = math.prod(x.shape[:-1])
    mean = average_over_axis(jnp.mean(x, axes, dtype=wide), axis_name)
    return mean, average_over_axis(gram(x) / rows, axis_name)

@jax.custom_jvp
def gram(x):
    return _product(x, x)

@gram.defjvp
def _gram_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    product = _product(dx, x)
    return _product(x, x), product + product.T

def _product(a,b):
    axes=tuple(range(a.ndim-1))
    return jax.lax.dot_general(a, b, ((axes,axes),((),())), precision=EXACT, preferred_element_type=jnp.promote_types(a.dtype, jnp.float32))
