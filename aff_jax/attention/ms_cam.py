"""Multi-scale channel attention (MS-CAM): weights from local and global context.

With C channels and reduction r, MS-CAM computes::

    branch(u) = B(PWConv2(act(B(PWConv1(u)))))       max(1, C // r) hidden channels
    L(u)      = branch(u)                            local context, the submodule `local`
    g(u)      = branch(mean of u)                    global context, the submodule `global`
    M(u)      = sigmoid(logit_scale * (L(u) + g(u))) logit_scale is 1 in the paper
    MSCAM(x)  = x * M(x)

where x is the input of a module, and u is the input of the attention. M(u) are the attention
weights, which a fusion uses as its fusion weights. In MS-CAM u is x. In a fusion it is a
combination of the two inputs.

The symbols are the paper's: B is batch normalization, PWConv is a pointwise convolution, and act is
its delta, a ReLU. `aff_jax.attention.branches` has the branches. A pointwise convolution is a dense
layer on the last axis, so an input is `(batch, *spatial, channels)` with any number of spatial
axes.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from aff_jax import fast
from aff_jax.attention.attention_module import AttentionModule
from aff_jax.attention.branches import attention_logits, make_branches
from aff_jax.nn.batch_norm import BatchNorm
from aff_jax.nn.checked_module import CheckedModule
from aff_jax.nn.input_checks import check_input, check_train
from aff_jax.nn.norm import NormFactory

__all__ = ["FUSION_WEIGHTS", "MSCAM", "Sigmoid", "attention_weights"]

FUSION_WEIGHTS = "fusion_weights"
"""Name under which weights are sown in the collection `intermediates`."""


class MSCAM(CheckedModule, kw_only=True):
    """Multi-scale channel attention module: weight the input by its own context.

    The output, with the default scales, is::

        MSCAM(x) = x * M(x)
        M(x)     = sigmoid(logit_scale * (L(x) + g(x)))

    where L is the branch of local context, and g is the branch of global context, which reads the
    mean of x over the spatial axes.

    M is sown as `fusion_weights` in the collection `intermediates`.

    Attributes:
        reduction: Reduction r; a branch has `max(1, C // r)` hidden channels.
        hidden: Number of hidden channels of a branch, or a function that returns it for C, such
            as `lambda channels: max(channels // 4, 16)`. None is `max(1, C // r)`.
        scales: Branches whose outputs are summed, each "local" (reads x) or "global" (reads the
            mean of x over the spatial axes). The paper uses `("local", "global")`.
        activation: Activation between the two layers of a branch.
        logit_scale: Factor of the sum before the sigmoid.
        use_bias: Give PWConv1 and PWConv2 of a branch a bias.
        norm: Function that makes the normalizations, or None for none. A tuple has one of these for
            each of `scales`, such as `(BatchNorm, None)`.
        kernel_init: Initializer of the kernels.
        dtype: Dtype of the computation. None infers it from the input and the parameters.
        param_dtype: Dtype of the parameters.
        implementation: "auto" takes the shortcuts of `aff_jax.fast`, "plain" the formula.

    References:
        Dai et al., Attentional Feature Fusion, 2021, section 3.2, equations 2 and 3.
    """

    reduction: float = 4
    hidden: int | Callable[[int], int] | None = None
    scales: Sequence[str] = ("local", "global")
    activation: Callable[[Array], Array] = nn.relu
    logit_scale: float = 1.0
    use_bias: bool = True
    norm: NormFactory | Sequence[NormFactory | None] | None = BatchNorm
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    implementation: str = "auto"

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *spatial channels"], train: bool = False
    ) -> Float[Array, "batch *spatial channels"]:
        """Weight `x` by its context.

        Args:
            x: Floating-point array `(batch, *spatial, channels)`.
            train: Normalize with the statistics of the batch, and update the running ones.

        Returns:
            Array of the shape of `x`.

        Raises:
            TypeError: If `x` is not floating point, or `train` is not True or False.
            ValueError: If `x` has fewer than two axes, or, with `train`, for the reasons that
                `BatchNorm` lists.
        """
        check_input(self, x=x)
        check_train(self, train)
        (x,) = promote_dtype(x, dtype=self.dtype)
        return x * attention_weights(self, x, x.shape[-1], train)


def attention_weights(
    module: AttentionModule,
    u: Float[Array, "batch *spatial in_channels"],
    channels: int,
    train: bool,
) -> Float[Array, "batch *spatial_or_ones channels"]:
    """Compute the weights M(u) in one iteration, and sow them.

    They are::

        M(u) = sigmoid(logit_scale * sum over scales of branch(context(u)))

    M is sown as `fusion_weights` in the collection `intermediates`. The branches and the sigmoid
    become submodules of the module whose `__call__` is running.

    Args:
        module: The module whose `__call__` is running; see `make_branch`.
        u: Input of the attention, `(batch, *spatial, in_channels)`.
        channels: Number of channels C of M.
        train: Normalize with the statistics of the batch, and update the running ones.

    Returns:
        Weights in (0, 1), `(batch, *spatial, channels)`. Their spatial axes have size one if all
        scales are global.

    Raises:
        ValueError: If `scales` is empty or has an unknown name, or for the reasons of
            `make_branch`.
    """
    branches = make_branches(module, channels)
    sigmoid = Sigmoid(module.logit_scale, module.implementation, name="sigmoid")
    M = sigmoid(attention_logits(branches, module.scales, u, train), train)
    module.sow("intermediates", FUSION_WEIGHTS, M)
    return M


class Sigmoid(nn.Module):
    """The sigmoid that turns logits into the weights M. It has no parameters.

    The output is::

        sigmoid(logit_scale * logits)

    It is a module, so that `aff_jax.parity` and other tools that record the outputs of modules see
    the weights of each iteration. In PyTorch, hooks see them too.

    Attributes:
        logit_scale: Factor of the logits.
        implementation: "auto" takes the shortcuts of `aff_jax.fast`, "plain" the formula.
    """

    logit_scale: float = 1.0
    implementation: str = "auto"

    def __call__(
        self, logits: Float[Array, "batch *spatial channels"], train: bool = False
    ) -> Float[Array, "batch *spatial channels"]:
        """Compute the weights of an iteration.

        Args:
            logits: Array `(batch, *spatial, channels)`.
            train: True in training. It only selects the program, not the result.

        Returns:
            Array of the shape and dtype of `logits`, with values in (0, 1).
        """
        logits = self.logit_scale * logits
        if fast.takes_shortcut("explicit_sigmoid", self.implementation, train=train):
            return fast.explicit_sigmoid(logits)
        return nn.sigmoid(logits)
