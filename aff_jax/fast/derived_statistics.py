"""Mean and variance of a batch, also of a batch that need not be computed to have them."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

__all__ = ["batch_moments", "derivation_pays", "projected_moments"]

EXACT = lax.Precision.HIGHEST
"""Matrix units round their inputs to few digits, which a variance cannot afford."""


def batch_moments(
    x: Float[Array, "*batch channels"], axis_name: str | None = None
) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    """Mean and biased variance over all axes but the last, in two passes.

        mean = E[x],  var = E[(x - mean)^2]

    E is taken over the mapped axis `axis_name` as well.
    """
    axes = tuple(range(x.ndim - 1))
    mean = _average(jnp.mean(x, axes), axis_name)
    return mean, _average(jnp.mean(jnp.square(x - mean), axes), axis_name)


def projected_moments(
    x: Float[Array, "*batch inputs"],
    kernel: Float[Array, "inputs channels"],
    axis_name: str | None = None,
) -> tuple[Float[Array, " channels"], Float[Array, " channels"]]:
    """Mean and biased variance of x @ kernel, from those of x.

        mean = E[x] @ kernel
        var  = diag(kernel^T Cov(x) kernel),  Cov(x) = E[(x - E[x])^T (x - E[x])]

    Where the product is much wider than x this spares two passes over it, and their gradients four.
    x is centred before it is squared, so a large mean costs no digits. Columns of x that are nearly
    equal do, where the kernel takes their difference: the error is of the order of the rounding of
    |kernel|^2 times the largest variance in x. A branch of attention reads normalised values, whose
    variances are about 1, and there it lies below the norm's epsilon.
    """
    rows = x.reshape(-1, x.shape[-1])
    mean = _average(jnp.mean(rows, axis=0), axis_name)
    centred = rows - mean
    covariance = _average(gram(centred) / len(rows), axis_name)
    var = jnp.sum(kernel * jnp.matmul(covariance, kernel, precision=EXACT), axis=0)
    # What rounds to less than nothing is a channel that does not vary.
    return jnp.matmul(mean, kernel, precision=EXACT), jnp.maximum(var, 0)


@jax.custom_jvp
def gram(x: Float[Array, "rows inputs"]) -> Float[Array, "inputs inputs"]:
    """Gram matrix of the columns: x^T x, with dx^T x + (dx^T x)^T for its derivative."""
    return jnp.matmul(x.T, x, precision=EXACT)


@gram.defjvp
def _gram_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # The two terms are one product and its transpose; JAX by itself would compute two.
    (x,), (dx,) = primals, tangents
    product = jnp.matmul(dx.T, x, precision=EXACT)
    # Written out, the value is a product to whoever decides what is kept for a gradient.
    return jnp.matmul(x.T, x, precision=EXACT), product + product.T


def derivation_pays(shape: tuple[int, ...], channels: int) -> bool:
    """Whether `projected_moments` of an array of that `shape` beat `batch_moments` of the product.

    They trade passes over memory for arithmetic, n^2 (rows + channels) for n inputs. On a CPU that
    was measured as a gain at 16 and 64 inputs and thousands of rows, and as a loss at 512 inputs
    and wherever there are hardly more rows than inputs. In between, and on accelerators, it has not
    been measured; the rule keeps to what was.
    """
    rows, inputs = math.prod(shape[:-1]), shape[-1]
    return channels >= 2 * inputs and inputs <= 64 and rows >= 16 * inputs


def _average(value: Array, axis_name: str | None) -> Array:
    return value if axis_name is None else lax.pmean(value, axis_name)
