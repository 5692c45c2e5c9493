"""Multi-scale channel attention (MS-CAM): weights from local and global context.

With C channels and reduction r, the modules of this file compute::

    branch(z) = BN(W2 act(BN(W1 z + b1)) + b2)            max(1, C // r) hidden channels
    M(z)      = sigmoid(local(z) + global(mean of z))     local and global are branches
    MSCAM(x)  = x * M(x)

In the paper, local is L, global is g, W1 and W2 are PWConv1 and PWConv2, act is the ReLU (delta),
and BN is B. A pointwise convolution is a dense layer on the last axis, so all inputs are `(batch,
*spatial, channels)` with any number of spatial axes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from aff_jax import fast
from aff_jax.lookup import look_up
from aff_jax.nn.batch_norm import BatchNorm
from aff_jax.nn.checked_module import CheckedModule
from aff_jax.nn.input_checks import check_input
from aff_jax.nn.norm import NormFactory, normalization
from aff_jax.nn.pooling import global_average

__all__ = ["MSCAM", "Branch", "Sigmoid", "branch_names", "make_branch", "sum_of_branches"]


class MSCAM(CheckedModule, kw_only=True):
    """Multi-scale channel attention module: weight the input by its own context.

    The output is::

        MSCAM(x) = x * M(x)
        M(x)     = sigmoid(local(x) + global(mean of x))

    M is sown as `fusion_weights` in the collection `intermediates`.

    Attributes:
        reduction: Reduction r; a branch has `max(1, C // r)` hidden channels.
        scales: Branches whose outputs are summed, each "local" (reads x) or "global" (reads the
            mean of x over the spatial axes). The paper has `("local", "global")`.
        activation: Activation between the two layers of a branch.
        logit_scale: Factor of the sum before the sigmoid.
        norm: Function that makes the normalizations.
        kernel_init: Initializer of the kernels.
        dtype: Dtype of the computation. None infers it from the input and the parameters.
        param_dtype: Dtype of the parameters.
        implementation: "auto" takes the shortcuts of `aff_jax.fast`, "plain" the formula.

    References:
        Dai et al., Attentional Feature Fusion, 2021, section 3.2, equations 1 and 2.
    """

    reduction: float = 4
    scales: Sequence[str] = ("local", "global")
    activation: Callable[[Array], Array] = nn.relu
    logit_scale: float = 1.0
    norm: NormFactory = BatchNorm
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
            TypeError: If `x` is not floating point.
            ValueError: If `x` has fewer than two axes, or, with `train`, for the reasons that
                `BatchNorm` lists.
        """
        check_input(self, x=x)
        (x,) = promote_dtype(x, dtype=self.dtype)
        branches = [make_branch(self, name, x.shape[-1]) for name in branch_names(self.scales)]
        sigmoid = Sigmoid(self.logit_scale, self.implementation, name="sigmoid")
        M = sigmoid(sum_of_branches(branches, self.scales, x, train), train)
        self.sow("intermediates", "fusion_weights", M)
        return x * M


class Branch(nn.Module):
    """A pointwise bottleneck, which computes the logits of one scale of context.

    The output is::

        branch(z) = BN(W2 act(BN(W1 z + b1)) + b2)

    The collection `params` has W1 and b1 as `reduce`, the first BN as `reduce_norm`, W2 and b2 as
    `expand`, and the second BN as `expand_norm`. The kernels are `(in_channels, hidden)` and
    `(hidden, features)`.

    Attributes:
        features: Number of output channels.
        hidden: Number of hidden channels.
        activation: Activation between the two layers.
        norm: Function that makes the normalizations.
        kernel_init: Initializer of the kernels.
        dtype: Dtype of the computation. None infers it from the input and the parameters.
        param_dtype: Dtype of the parameters.
        implementation: "auto" takes the shortcuts of `aff_jax.fast`, "plain" the formula.

    References:
        Dai et al., Attentional Feature Fusion, 2021, section 3.2, equation 1; `local_att` in
        open-aff's `aff_pytorch/aff_net/fusion.py`.
    """

    features: int
    hidden: int
    activation: Callable[[Array], Array] = nn.relu
    norm: NormFactory = BatchNorm
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    implementation: str = "auto"

    @nn.compact
    def __call__(
        self, z: Float[Array, "batch *spatial in_channels"], train: bool = False
    ) -> Float[Array, "batch *spatial features"]:
        """Compute the logits of this scale.

        Args:
            z: Array `(batch, *spatial, in_channels)`.
            train: Normalize with the statistics of the batch, and update the running ones.

        Returns:
            Array `(batch, *spatial, features)`.
        """
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        reduce = nn.Dense(self.hidden, kernel_init=self.kernel_init, name="reduce", **dtypes)
        reduce_norm = normalization(self.norm, name="reduce_norm", **dtypes)
        expand = nn.Dense(self.features, kernel_init=self.kernel_init, name="expand", **dtypes)
        expand_norm = normalization(self.norm, name="expand_norm", **dtypes)
        if fast.takes_shortcut(
            "derived_statistics",
            self.implementation,
            train=train,
            dense=expand,
            norm=expand_norm,
            hidden_shape=(*z.shape[:-1], self.hidden),
            features=self.features,
        ):
            return fast.derived_branch(z, reduce, reduce_norm, self.activation, expand, expand_norm)
        hidden = self.activation(reduce_norm(reduce(z), train=train))
        return expand_norm(expand(hidden), train=train)


class Sigmoid(nn.Module):
    """The sigmoid that turns logits into attention weights. It has no parameters.

    The output is::

        sigmoid(logit_scale * logits)

    It is a module so that tools that record the outputs of modules, such as `aff_jax.parity`, see
    the weights of each pass, as PyTorch's hooks do.

    Attributes:
        logit_scale: Factor of the logits.
        implementation: "auto" takes the shortcuts of `aff_jax.fast`, "plain" the formula.
    """

    logit_scale: float = 1.0
    implementation: str = "auto"

    def __call__(
        self, logits: Float[Array, "batch *spatial channels"], train: bool = False
    ) -> Float[Array, "batch *spatial channels"]:
        """Compute the weights of a pass.

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


CONTEXTS: dict[str, Callable[[Array], Array]] = {
    "local": lambda z: z,
    "global": global_average,
}
"""For each scale, the function of the input that a branch reads."""


def sum_of_branches(
    branches: Sequence[Branch],
    scales: Sequence[str],
    z: Float[Array, "batch *spatial in_channels"],
    train: bool,
) -> Float[Array, "batch *spatial_or_ones features"]:
    """Compute the logits of attention.

    They are::

        logits = sum over scales of branch(context(z))

    where the context of "local" is z and that of "global" is the mean of z over the spatial axes.

    Args:
        branches: One branch for each scale.
        scales: "local" or "global" for each branch.
        z: Array `(batch, *spatial, in_channels)`.
        train: Normalize with the statistics of the batch, and update the running ones.

    Returns:
        Array `(batch, *spatial, features)`. Its spatial axes have size one if all scales are
        global.

    Raises:
        ValueError: If there are no scales, or one is unknown.
    """
    if not scales:
        raise ValueError(
            f"expected at least one of the scales {', '.join(CONTEXTS)}, got an empty sequence."
        )
    logits = [
        branch(look_up(CONTEXTS, "scale", scale)(z), train)
        for scale, branch in zip(scales, branches, strict=True)
    ]
    return sum(logits[1:], start=logits[0])


def branch_names(scales: Sequence[str], pass_number: int = 1) -> list[str]:
    """Return the names of the branches of one pass of attention.

    The n-th branch of a scale is `local`, `local2`, `local3` and so on, as in the checkpoints of
    the references. `("local", "global")` gives `local`, `global` for the first pass and `local2`,
    `global2` for the second.

    Args:
        scales: The scales of one pass.
        pass_number: Number of the pass, from 1.

    Returns:
        One name for each scale.

    Raises:
        ValueError: If `scales` is a string.
    """
    if isinstance(scales, str):
        raise ValueError(
            f"expected a tuple of scales, got the string {scales!r}. One scale is ({scales!r},)."
        )
    names = []
    for position, scale in enumerate(scales):
        in_earlier_passes = (pass_number - 1) * list(scales).count(scale)
        earlier = in_earlier_passes + list(scales[:position]).count(scale)
        names.append(f"{scale}{earlier + 1}" if earlier else scale)
    return names


def make_branch(module: Any, name: str, channels: int, outputs: int = 1) -> Branch:
    """Make a branch of attention as a submodule of the module whose `__call__` is running.

    Args:
        module: `MSCAM` or a fusion with the same fields, which the branch gets.
        name: Name of the branch.
        channels: Number of channels C.
        outputs: Number of logits for each channel. All are computed from one hidden layer.

    Returns:
        The branch, with `max(1, channels // module.reduction)` hidden channels.

    Raises:
        ValueError: If the reduction is not positive.
    """
    if not module.reduction > 0:
        raise ValueError(f"expected a positive reduction, got {module.reduction}.")
    return Branch(
        features=outputs * channels,
        hidden=max(1, int(channels // module.reduction)),
        activation=module.activation,
        norm=module.norm,
        kernel_init=module.kernel_init,
        dtype=module.dtype,
        param_dtype=module.param_dtype,
        implementation=module.implementation,
        name=name,
    )
