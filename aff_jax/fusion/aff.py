"""Attentional feature fusion (AFF)."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from aff_jax import fast
from aff_jax.attention.ms_cam import attention_weights
from aff_jax.fusion.base import Fusion
from aff_jax.lookup import look_up
from aff_jax.nn.batch_norm import BatchNorm
from aff_jax.nn.norm import NormFactory

__all__ = ["AFF", "combine_inputs", "weighted_sum"]


class AFF(Fusion, kw_only=True):
    """Attentional feature fusion of two arrays of the same shape.

    The output, with the default fields, is::

        AFF(x, y) = gain * (x * M(u) + y * (1 - M(u))),  u = x + y

    where x and y are the two inputs, u is the input of the attention, and M is multi-scale channel
    attention (see `aff_jax.attention.ms_cam` for its formula and `aff_jax.attention.branches` for
    its branches). M(u) is sown as `fusion_weights` in the collection `intermediates`.

    The defaults are the paper's. Open-aff's code uses `gain=2`, so that the weights of x and y sum
    to 2, as in addition. 3D-Speaker's ERes2Net uses `gain=2`, `combine="concat"`,
    `scales=("local",)`, `activation=nn.silu` and `logit_scale=2`; its weights are written as
    `1 + tanh(l)`, which is `2 sigmoid(2 l)`.

        >>> import aff_jax, jax
        >>> x, y = jax.random.normal(jax.random.key(0), (2, 4, 8, 8, 16))
        >>> aff = aff_jax.AFF()
        >>> variables = aff.init(jax.random.key(1), x, y)
        >>> z, updates = aff.apply(variables, x, y, train=True, mutable=["batch_stats"])
        >>> z.shape, updates.keys()
        ((4, 8, 8, 16), dict_keys(['batch_stats']))

    Attributes:
        reduction: Reduction r; a branch of M has `max(1, C // r)` hidden channels.
        hidden: Number of hidden channels of a branch, or a function that returns it for C, such
            as `lambda channels: max(channels // 4, 16)`. None is `max(1, C // r)`.
        gain: Factor of the output.
        combine: How u is made of x and y. "add" adds them, as in the paper. "concat" concatenates
            their channels.
        scales: Branches of M whose outputs are summed, each "local" or "global".
        activation: Activation between the two layers of a branch.
        logit_scale: Factor of the sum of the branches before the sigmoid.
        use_bias: Give PWConv1 and PWConv2 of a branch a bias.
        norm: Function that makes the normalizations, or None for none. A tuple has one of these for
            each of `scales`, such as `(BatchNorm, None)`.
        kernel_init: Initializer of the kernels.
        dtype: Dtype of the computation. None infers it from the inputs and the parameters.
        param_dtype: Dtype of the parameters.
        remat: Recompute the fusion in the backward pass; see `Fusion`.
        implementation: "auto" takes the shortcuts of `aff_jax.fast`, "plain" the formula.

    References:
        Dai et al., Attentional Feature Fusion, 2021, section 4.1, equation 4; open-aff's
        `aff_pytorch/aff_net/fusion.py`, and open-aff's issue 28 for the gain. `aff_jax.fusion` says
        which feature map of a network is x.
    """

    reduction: float = 4
    hidden: int | Callable[[int], int] | None = None
    gain: float = 1.0
    combine: str = "add"
    scales: Sequence[str] = ("local", "global")
    activation: Callable[[Array], Array] = nn.relu
    logit_scale: float = 1.0
    use_bias: bool = True
    norm: NormFactory | Sequence[NormFactory | None] | None = BatchNorm
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    remat: bool | str = False
    implementation: str = "auto"

    def fuse(self, x: Array, y: Array, train: bool) -> Array:
        """Compute `gain * (x * M(u) + y * (1 - M(u)))`."""
        u = combine_inputs(x, y, self.combine)
        M = attention_weights(self, u, x.shape[-1], train)
        return weighted_sum(x, y, M, self.gain, self.implementation)


def weighted_sum(
    x: Float[Array, "batch *spatial channels"],
    y: Float[Array, "batch *spatial channels"],
    M: Float[Array, "batch *spatial_or_ones channels"],
    gain: float,
    implementation: str,
) -> Float[Array, "batch *spatial channels"]:
    """Compute the weighted sum of a fusion.

    The result is::

        gain * (x * M + y * (1 - M))

    With `gain=1` this is the paper's equation 4.

    Args:
        x: Array `(batch, *spatial, channels)`.
        y: Array of the shape and dtype of `x`.
        M: Weights of x, broadcast to the shape of `x`.
        gain: Factor of the sum.
        implementation: "auto" takes the shortcut `gain_inside_sum` of `aff_jax.fast`, "plain" the
            formula.

    Returns:
        Array of the shape and dtype of `x`.

    Raises:
        ValueError: If `implementation` is unknown.
    """
    # By default the sum is computed by `gain_inside_sum`, which XLA compiles to a faster program.
    # The last line is the definition, and what "plain" computes. tests/aff_jax/fast compares both.
    if fast.takes_shortcut("gain_inside_sum", implementation):
        return fast.gain_inside_sum(x, y, M, gain)
    return gain * (x * M + y * (1 - M))


_COMBINE: dict[str, Callable[[Array, Array], Array]] = {
    "add": lambda x, y: x + y,
    "concat": lambda x, y: jnp.concatenate([x, y], axis=-1),
}
"""For each value of the field `combine`, the function that makes u of x and y."""


def combine_inputs(
    x: Float[Array, "batch *spatial channels"],
    y: Float[Array, "batch *spatial channels"],
    combine: str,
) -> Float[Array, "batch *spatial in_channels"]:
    """Compute u, the input of the attention, from `x` and `y`.

    Args:
        x: Array `(batch, *spatial, channels)`.
        y: Array of the shape of `x`.
        combine: "add" adds them, "concat" concatenates their channels.

    Returns:
        Array `(batch, *spatial, in_channels)`, with `channels` or twice as many channels.

    Raises:
        ValueError: If `combine` is unknown.
    """
    return look_up(_COMBINE, "combine", combine)(x, y)
