"""What attentional fusion is compared with: refinement, modulation and soft selection.

They weigh by channel attention G, which reads the global context only. With
`scales=("local", "global")` it is AFF's M, so that the scheme and the attention can be told apart.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from aff_jax.attention.ms_cam import ContextAttention, branch_names
from aff_jax.fusion.base import Fusion

__all__ = ["GAU", "SE", "SK", "Highway"]


class GatedFusion(Fusion, ContextAttention, kw_only=True):
    """A fusion whose gate is read from one array.

        G(z) = sigmoid(global(z))

    **Fields:** those of `ContextAttention` and `Fusion`; `scales=("global",)` unless given.

    **Sows** G as `fusion_weights` in `intermediates`.
    """

    scales: Sequence[str] = ("global",)

    def gate(self, z: Float[Array, "batch *spatial channels"], train: bool) -> Array:
        """G(z), sown; to be called inside a compact method."""
        branches = [self.branch(name, z.shape[-1]) for name in branch_names(self.scales)]
        weights = self.weigh(z, branches, train)
        self.sow("intermediates", "fusion_weights", weights)
        return weights


class SE(GatedFusion):
    """Refinement: x is weighed by its own context, then added.

        SE(x, y) = y + G(x) * x

    In a residual block x is the residual branch and y the identity.

    **Fields** and what it **sows**: those of `GatedFusion`.

    Source: paper table 1, "Refinement"; Hu et al., Squeeze-and-Excitation Networks, 2018, whose
    bottleneck has no batch norm.
    """

    def fuse(self, x: Array, y: Array, train: bool) -> Array:
        """The formula, of two arrays of one shape and dtype."""
        return y + self.gate(x, train) * x


class GAU(GatedFusion):
    """Modulation: the context of x weighs y.

        GAU(x, y) = G(x) * y + x

    In a residual block x is the residual branch and y the identity; with a long skip x is the
    deeper map, whose context guides the shallower y.

    **Fields** and what it **sows**: those of `GatedFusion`.

    Source: paper table 1, "Modulation"; the global attention upsample of Li et al., Pyramid
    Attention Network for Semantic Segmentation, 2018.
    """

    def fuse(self, x: Array, y: Array, train: bool) -> Array:
        """The formula, of two arrays of one shape and dtype."""
        return self.gate(x, train) * y + x


class Highway(GatedFusion):
    """Soft selection by one input's context: a weighted mean.

        Highway(x, y) = G(x) * x + (1 - G(x)) * y

    **Fields** and what it **sows**: those of `GatedFusion`.

    Source: paper table 1, "Soft Selection"; Srivastava et al., Highway Networks, 2015, equation 3.
    """

    def fuse(self, x: Array, y: Array, train: bool) -> Array:
        """The formula, of two arrays of one shape and dtype."""
        weights = self.gate(x, train)
        return weights * x + (1 - weights) * y


class SK(Fusion, ContextAttention, kw_only=True):
    """Soft selection by the context of both: a softmax across x and y, channel by channel.

        SK(x, y)   = a * x + b * y
        a          = exp(l_a) / (exp(l_a) + exp(l_b)),  b = 1 - a
        (l_a, l_b) = global(x + y)

    One vector of max(1, C // r) values is expanded twice, to C logits for x and C for y.

    **Fields:** those of `ContextAttention` and `Fusion`; `scales=("global",)` unless given. As
    elsewhere the expansions have a batch norm and the hidden width no lower bound of 32, where
    SKNet's have none and one, so that only the scheme differs.

    **Sows** a as `fusion_weights` in `intermediates`.

    Source: paper table 1, "Soft Selection"; Li et al., Selective Kernel Networks, 2019, equations 3
    to 6.
    """

    scales: Sequence[str] = ("global",)

    def fuse(self, x: Array, y: Array, train: bool) -> Array:
        """The formula, of two arrays of one shape and dtype."""
        names = branch_names(self.scales)
        branches = [self.branch(name, x.shape[-1], outputs=2) for name in names]
        logits = jnp.split(self.logits(x + y, branches, train), 2, axis=-1)
        a, b = nn.softmax(jnp.stack(logits), axis=0)
        self.sow("intermediates", "fusion_weights", a)
        return a * x + b * y
