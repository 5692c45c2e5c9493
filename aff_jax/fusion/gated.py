"""Baselines with a gate: refinement, modulation and soft selection in the paper's table 1.

Their weights come from a gate that reads global context only::

    G(u) = sigmoid(logit_scale * g(u)),  g(u) = branch(mean of u)

where u is the input of the gate and branch is defined in `aff_jax.attention.branches`. All fusions
have this gate, not the gates of their own papers, so that the table compares only the schemes.
With `scales=("local", "global")`, G is the M of AFF. The table's X is the second input y here, and
its Y is x (see `aff_jax.fusion`).
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array

from aff_jax.attention.branches import attention_logits, make_branches
from aff_jax.attention.ms_cam import FUSION_WEIGHTS, attention_weights
from aff_jax.fusion.base import Fusion
from aff_jax.nn.batch_norm import BatchNorm
from aff_jax.nn.norm import NormFactory

__all__ = ["GAU", "SE", "SK", "GatedFusion", "Highway"]


class GatedFusion(Fusion, kw_only=True):
    """Base class of the fusions with a gate.

    The weights are sown as `fusion_weights` in the collection `intermediates`.

    Attributes:
        reduction: Reduction r; a branch of the gate has `max(1, C // r)` hidden channels.
        hidden: Number of hidden channels of a branch, or a function that returns it for C. None is
            `max(1, C // r)`.
        scales: Branches of the gate whose outputs are summed, each "local" or "global".
        activation: Activation between the two layers of a branch.
        logit_scale: Factor of the sum of the branches before the sigmoid.
        use_bias: Add biases in both layers of a branch.
        norm: Function that makes the normalizations after both layers of a branch, or None for
            none. A tuple has one of these for each of `scales`.
        kernel_init: Initializer of the kernels.
        param_dtype: Dtype of the parameters.
        implementation: "auto" takes the shortcuts of `aff_jax.fast`, "plain" the formula.
        dtype: See `Fusion`.
        remat: See `Fusion`.
    """

    reduction: float = 4
    hidden: int | Callable[[int], int] | None = None
    scales: Sequence[str] = ("global",)
    activation: Callable[[Array], Array] = nn.relu
    logit_scale: float = 1.0
    use_bias: bool = True
    norm: NormFactory | Sequence[NormFactory | None] | None = BatchNorm
    kernel_init: Initializer = nn.initializers.lecun_normal()
    param_dtype: Dtype = jnp.float32
    implementation: str = "auto"


class SE(GatedFusion):
    """Refinement: x is weighted by its own context and added to y.

    The output is::

        SE(x, y) = y + G(x) * x

    `SE(reduction=16, norm=None)` has the bottleneck of Squeeze-and-Excitation. The fields are
    inherited from `GatedFusion`.

    References:
        Dai et al., Attentional Feature Fusion, 2021, table 1, "Refinement", X + G(Y) * Y with X = y
        and Y = x; Hu et al., Squeeze-and-Excitation Networks, 2018.
    """

    def fuse(self, x: Array, y: Array, train: bool) -> Array:
        """Compute `y + G(x) * x`."""
        return y + attention_weights(self, x, x.shape[-1], train) * x


class GAU(GatedFusion):
    """Modulation: y is weighted by the context of x.

    The output is::

        GAU(x, y) = G(x) * y + x

    With a long skip connection x is the deeper map, whose context guides the shallower y. The
    fields are inherited from `GatedFusion`.

    References:
        Dai et al., Attentional Feature Fusion, 2021, table 1, "Modulation", G(Y) * X + Y with X = y
        and Y = x; the global attention upsample of Li et al., Pyramid Attention Network for
        Semantic Segmentation, 2018.
    """

    def fuse(self, x: Array, y: Array, train: bool) -> Array:
        """Compute `G(x) * y + x`."""
        return attention_weights(self, x, x.shape[-1], train) * y + x


class Highway(GatedFusion):
    """Soft selection by the context of y: a weighted mean of x and y.

    The output is::

        Highway(x, y) = G(y) * y + (1 - G(y)) * x

    In a residual block y is the identity. A highway network also computes its gate from the input
    of the block, but its gate weights the other input: its T is 1 - G. The fields are inherited
    from `GatedFusion`.

    References:
        Dai et al., Attentional Feature Fusion, 2021, table 1, "Soft Selection",
        G(X) * X + (1 - G(X)) * Y with X = y and Y = x; Srivastava et al., Highway Networks, 2015,
        equation 3.
    """

    def fuse(self, x: Array, y: Array, train: bool) -> Array:
        """Compute `G(y) * y + (1 - G(y)) * x`."""
        G = attention_weights(self, y, y.shape[-1], train)
        return G * y + (1 - G) * x


class SK(GatedFusion):
    """Soft selection by the context of both inputs: a softmax over x and y for each channel.

    The output is::

        SK(x, y)   = gain * (a * x + b * y)
        a          = exp(l_a) / (exp(l_a) + exp(l_b)),  b = 1 - a
        (l_a, l_b) = logit_scale * g(u),  u = x + y

    One hidden layer of `max(1, C // r)` channels is expanded twice, to C logits for x and C for y.
    The weights a are sown. The other fields are inherited from `GatedFusion`.

    With `gain=2` this is `SKFuse` of open-acm without the convolution that follows. SKNet has
    `hidden=lambda channels: max(channels // r, 32)`, `use_bias=False` and
    `normalize_logits=False`.

    Attributes:
        gain: Factor of the output.
        normalize_logits: Normalize after the second layer of the branch too.

    References:
        Dai et al., Attentional Feature Fusion, 2021, table 1, "Soft Selection"; open-acm
        `model/fusion.py`, by the same authors; Li et al., Selective Kernel Networks, 2019,
        equations 3 to 6.
    """

    gain: float = 1.0
    normalize_logits: bool = True

    def fuse(self, x: Array, y: Array, train: bool) -> Array:
        """Compute `gain * (a * x + b * y)`."""
        branches = make_branches(
            self, x.shape[-1], outputs=2, normalize_logits=self.normalize_logits
        )
        logits = self.logit_scale * attention_logits(branches, self.scales, x + y, train)
        a, b = nn.softmax(jnp.stack(jnp.split(logits, 2, axis=-1)), axis=0)
        self.sow("intermediates", FUSION_WEIGHTS, a)
        return self.gain * (a * x + b * y)
