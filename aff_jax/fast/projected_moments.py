"""Mean and variance of a matrix product, without the product."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from aff_jax.nn.batch_norm import average_over_axis

__all__ = ["gram", "projected_moments"]

_EXACT = lax.Precision.HIGHEST
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
    rows = x.reshape(-1, x.shape[-1])
    mean = average_over_axis(jnp.mean(rows, axis=0), axis_name)
    centered = rows - mean[None]
    covariance = average_over_axis(gram(centered) / len(rows), axis_name)
    var = jnp.sum(kernel * jnp.matmul(covariance, kernel, precision=_EXACT), axis=0)
    # Rounding can make the variance of a constant channel negative.
    return jnp.matmul(mean, kernel, precision=_EXACT), jnp.maximum(var, 0)


@jax.custom_jvp
def gram(x: Float[Array, "rows inputs"]) -> Float[Array, "inputs inputs"]:
    """Compute the Gram matrix of the columns.

    The matrix and its derivative are::

        G  = x^T x
        dG = dx^T x + (dx^T x)^T

    Args:
        x: Array `(rows, inputs)`.

    Returns:
        Symmetric array `(inputs, inputs)`.
    """
    return jnp.matmul(x.T, x, precision=_EXACT)


@gram.defjvp
def _gram_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # The two terms are one product and its transpose. JAX by itself would compute two products.
    (x,), (dx,) = primals, tangents
    product = jnp.matmul(dx.T, x, precision=_EXACT)
    # The value is written as a product here, so that a remat policy that keeps products sees one.
    return jnp.matmul(x.T, x, precision=_EXACT), product + product.T
