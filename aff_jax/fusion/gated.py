"""Fusions with a gate, which attentional fusion is compared with.

They are refinement, modulation and soft selection in the paper's table 1. Their weights come from a
gate that reads global context only::

    G(z) = sigmoid(global(mean of z))

With `scales=("local", "global")` the gate is AFF's M, which separates the effect of the scheme from
that of the attention.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from aff_jax.attention.ms_cam import Sigmoid, branch_names, make_branch, sum_of_branches
from aff_jax.fusion.base import Fusion
from aff_jax.nn.batch_norm import BatchNorm
from aff_jax.nn.norm import NormFactory

__all__ = ["GAU", "SE", "SK", "GatedFusion", "Highway"]


class GatedFusion(Fusion, kw_only=True):
    """Base class of the fusions with a gate.

    The weights are sown as `fusion_weights` in the collection `intermediates`.

    Attributes:
        reduction: Reduction r; a branch of the gate has `max(1, C // r)` hidden channels.
        scales: Branches of the gate whose outputs are summed, each "local" or "global".
        activation: Activation between the two layers of a branch.
        logit_scale: Factor of the sum of the branches before the sigmoid.
        norm: Function that makes the normalizations.
        kernel_init: Initializer of the kernels.
        param_dtype: Dtype of the parameters.
        implementation: "auto" takes the shortcuts of `aff_jax.fast`, "plain" the formula.
        dtype: See `Fusion`.
        remat: See `Fusion`.
    """

    reduction: float = 4
    scales: Sequence[str] = ("global",)
    activation: Callable[[Array], Array] = nn.relu
    logit_scale: float = 1.0
    norm: NormFactory = BatchNorm
    kernel_init: Initializer = nn.initializers.lecun_normal()
    param_dtype: Dtype = jnp.float32
    implementation: str = "auto"

    def gate(self, z: Float[Array, "batch *spatial channels"], train: bool) -> Array:
        """Compute G(z) and sow it."""
        branches = [make_branch(self, name, z.shape[-1]) for name in branch_names(self.scales)]
        sigmoid = Sigmoid(self.logit_scale, self.implementation, name="sigmoid")
        G = sigmoid(sum_of_branches(branches, self.scales, z, train), train)
        self.sow("intermediates", "fusion_weights", G)
        return G


class SE(GatedFusion):
    """Refinement: x is weighted by its own context and added to y.

    The output is::

        SE(x, y) = y + G(x) * x

    The fields are those of `GatedFusion`.

    References:
        Dai et al., Attentional Feature Fusion, 2021, table 1, "Refinement"; Hu et al.,
        Squeeze-and-Excitation Networks, 2018, whose bottleneck has no batch norm.
    """

    def fuse(self, x: Array, y: Array, train: bool) -> Array:
        """Compute the formula for two arrays of the same shape and dtype."""
        return y + self.gate(x, train) * x


class GAU(GatedFusion):
    """Modulation: y is weighted by the context of x.

    The output is::

        GAU(x, y) = G(x) * y + x

    With a long skip connection x is the deeper map, whose context guides the shallower y. The
    fields are those of `GatedFusion`.

    References:
        Dai et al., Attentional Feature Fusion, 2021, table 1, "Modulation"; the global attention
        upsample of Li et al., Pyramid Attention Network for Semantic Segmentation, 2018.
    """

    def fuse(self, x: Array, y: Array, train: bool) -> Array:
        """Compute the formula for two arrays of the same shape and dtype."""
        return self.gate(x, train) * y + x


class Highway(GatedFusion):
    """Soft selection by the context of x: a weighted mean of x and y.

    The output is::

        Highway(x, y) = G(x) * x + (1 - G(x)) * y

    The fields are those of `GatedFusion`.

    References:
        Dai et al., Attentional Feature Fusion, 2021, table 1, "Soft Selection"; Srivastava et al.,
        Highway Networks, 2015, equation 3.
    """

    def fuse(self, x: Array, y: Array, train: bool) -> Array:
        """Compute the formula for two arrays of the same shape and dtype."""
        G = self.gate(x, train)
        return G * x + (1 - G) * y


class SK(GatedFusion):
    """Soft selection by the context of both inputs: a softmax over x and y for each channel.

    The output is::

        SK(x, y)   = a * x + b * y
        a          = exp(l_a) / (exp(l_a) + exp(l_b)),  b = 1 - a
        (l_a, l_b) = global(mean of x + y)

    One hidden layer of max(1, C // r) channels is expanded twice, to C logits for x and C for y.
    As in the other fusions, the expansion has a batch norm and the hidden layer has no lower bound;
    SKNet has no such batch norm and a lower bound of 32. So only the scheme differs. The fields are
    those of `GatedFusion`; a is sown.

    References:
        Dai et al., Attentional Feature Fusion, 2021, table 1, "Soft Selection"; Li et al.,
        Selective Kernel Networks, 2019, equations 3 to 6.
    """

    def fuse(self, x: Array, y: Array, train: bool) -> Array:
        """Compute the formula for two arrays of the same shape and dtype."""
        names = branch_names(self.scales)
        branches = [make_branch(self, name, x.shape[-1], outputs=2) for name in names]
        logits = self.logit_scale * sum_of_branches(branches, self.scales, x + y, train)
        a, b = nn.softmax(jnp.stack(jnp.split(logits, 2, axis=-1)), axis=0)
        self.sow("intermediates", "fusion_weights", a)
        return a * x + b * y
