"""The weighted sum of a fusion, in the form that XLA keeps instead of recomputing."""

from jaxtyping import Array, Float

__all__ = ["gain_inside_sum"]


def gain_inside_sum(
    x: Float[Array, "..."], y: Float[Array, "..."], weights: Float[Array, "..."], gain: float
) -> Float[Array, "..."]:
    """Compute `gain * (x * weights + y * (1 - weights))` with the gain inside the sum.

    XLA duplicates a product of an array and a constant, with everything that is fused into it, for
    each of its readers. With the gain as last factor, a training step on a CPU recomputed the
    fusions of all earlier blocks in each later block.
    """
    return gain * y + (gain * weights) * (x - y)
