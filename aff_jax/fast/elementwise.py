"""Elementwise formulas in the form that XLA compiles to the faster program."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["explicit_sigmoid", "gain_inside_sum"]


@jax.custom_jvp
def explicit_sigmoid(logits: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Compute the logistic function with an explicit exponential.

    The result is::

        sigmoid(l) = 1 / (1 + exp(-l))

    XLA's CPU backend runs its own logistic function, and all that is fused with it, in one thread.

    Args:
        logits: Array l of any floating-point dtype and any shape.

    Returns:
        Array of the shape and dtype of `logits`, with values in (0, 1).
    """
    return 1 / (1 + jnp.exp(-logits))


# Autodiff of the expression above gives inf / inf at large negative logits.
explicit_sigmoid.defjvps(lambda tangent, M, _: tangent * M * (1 - M))


def gain_inside_sum(
    x: Float[Array, "batch *spatial channels"],
    y: Float[Array, "batch *spatial channels"],
    M: Float[Array, "batch *spatial_or_ones channels"],
    gain: float,
) -> Float[Array, "batch *spatial channels"]:
    """Compute the weighted sum of a fusion with the gain inside the sum.

    The result is::

        gain * y + (gain * M) * (x - y) = gain * (x * M + y * (1 - M))

    XLA duplicates a product of an array and a constant, with everything that is fused into it, for
    each of its readers. With the gain as last factor, a training step on a CPU recomputed the
    fusions of all earlier blocks in each later block.

    Args:
        x: First input of the fusion, `(batch, *spatial, channels)`.
        y: Second input, of the shape of `x`.
        M: Weights of `x`, broadcast to the shape of `x`.
        gain: Factor of the sum.

    Returns:
        Array of the shape of `x`.
    """
    return gain * y + (gain * M) * (x - y)
