"""Mean and variance of a matrix product, without the product."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from aff_jax.nn.batch_norm import along_channels, average_over_axis

__all__ = ["mean_and_covariance", "projected_moments"]

_EXACT = lax.Precision.HIGHEST
"""Precision of the products. By default, accelerators round the inputs of a product to bfloat16 or
TF32, and a variance would lose precision."""


def projected_moments(
    x: Float[Array, "*batch inputs"],
    kernel: Float[Array, "inputs channels"],
    axis_name: str | None = None,
) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    """Compute mean and biased variance of `x @ kernel` from the moments of `x`.

    They are::

        mean = E[x] @ kernel
        var  = diag(kernel^T Cov(x) kernel)

    If columns of `x` are nearly equal and the kernel takes their difference, `var` loses precision:
    the error is of the order of the rounding of the squared norm of the kernel times the largest
    variance in `x`. The branches of attention pass normalized values, whose variances are about 1,
    so that the error is below the norm's epsilon.

    Args:
        x: Array `(*batch, inputs)`.
        kernel: Array `(inputs, channels)`, float32 or wider.
        axis_name: Mapped axis over which the expectation is taken as well.

    Returns:
        Mean and variance, each `(channels,)`, of the dtype of `kernel` or wider.
    """
    mean, covariance = mean_and_covariance(x, axis_name)
    var = jnp.sum(kernel * jnp.matmul(covariance, kernel, precision=_EXACT), axis=0)
    # Rounding can make the variance of a constant channel negative.
    return jnp.matmul(mean, kernel, precision=_EXACT), jnp.maximum(var, 0)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def mean_and_covariance(
    x: Float[Array, "*batch inputs"], axis_name: str | None = None
) -> tuple[Float[Array, " inputs"], Float[Array, "inputs inputs"]]:
    """Compute the mean and the biased covariance of the columns, in float32 or wider.

    They and their derivatives are::

        mean  = E[x]                          Cov  = E[(x - mean)^T (x - mean)]
        dmean = E[dx]                         dCov = P + P^T,   P = E[(x - mean)^T dx]

    `x` is centered before it is squared, so a large mean loses no precision. In half precision the
    mean is subtracted afterwards: products of two such numbers are exact in float32, and centered
    values would be float32 arrays in memory.

    Args:
        x: Array `(*batch, inputs)`.
        axis_name: Mapped axis over which the expectation is taken as well.

    Returns:
        Mean `(inputs,)` and covariance `(inputs, inputs)`.
    """
    return _mean_and_covariance(x, axis_name)


# Autodiff would compute the two terms of dCov as two products, and propagate the derivative of the
# covariance with respect to the mean, which is zero.
@mean_and_covariance.defjvp
def _mean_and_covariance_jvp(
    axis_name: str | None, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    (x,), (dx,) = primals, tangents
    # The values are written out, so that a remat policy that keeps products sees the product.
    mean, covariance = _mean_and_covariance(x, axis_name)
    dmean = average_over_axis(_mean(dx), axis_name)
    product = average_over_axis(_mean_product(_centered(x, mean), dx), axis_name)
    if _is_half(x):
        product -= mean[:, None] * dmean[None]
    return (mean, covariance), (dmean, product + product.T)


def _mean_and_covariance(x: Array, axis_name: str | None) -> tuple[Array, Array]:
    mean = average_over_axis(_mean(x), axis_name)
    centered = _centered(x, mean)
    covariance = average_over_axis(_mean_product(centered, centered), axis_name)
    return mean, covariance - mean[:, None] * mean[None] if _is_half(x) else covariance


def _is_half(x: Array) -> bool:
    return x.dtype.itemsize < 4


def _centered(x: Array, mean: Array) -> Array:
    """Subtract the mean, unless `x` has half precision."""
    return x if _is_half(x) else x - along_channels(mean, x.ndim)


def _mean(x: Array) -> Array:
    return jnp.mean(x, axis=tuple(range(x.ndim - 1)), dtype=jnp.promote_types(x.dtype, jnp.float32))


def _mean_product(a: Array, b: Array) -> Array:
    """Compute E[a^T b] over the rows of two arrays."""
    axes = tuple(range(a.ndim - 1))
    wide = jnp.promote_types(a.dtype, jnp.float32)
    contracted = ((axes, axes), ((), ()))
    product = lax.dot_general(a, b, contracted, precision=_EXACT, preferred_element_type=wide)
    return product / math.prod(a.shape[:-1])
