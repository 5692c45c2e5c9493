"""Iterative attentional feature fusion (iAFF)."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array

from aff_jax.attention.branches import Branch, attention_logits, make_branch, make_branches
from aff_jax.attention.ms_cam import FUSION_WEIGHTS, Sigmoid
from aff_jax.fusion.aff import combine_inputs, weighted_sum
from aff_jax.fusion.base import Fusion
from aff_jax.nn.batch_norm import BatchNorm
from aff_jax.nn.norm import NormFactory

__all__ = ["IAFF"]


class IAFF(Fusion, kw_only=True):
    """Iterative attentional feature fusion: the attention reads a first fusion.

    The output, with the default fields, is::

        u_1 = x + y
        z_i = gain * (x * M_i(u_i) + y * (1 - M_i(u_i)))
        u_(i+1) = z_i
        IAFF(x, y) = z_i of the last iteration

    where x and y are the two inputs, u_i is the input of the attention of iteration i, z_i is the
    output of that iteration, and each M_i is multi-scale channel attention (see
    `aff_jax.attention.ms_cam`) with its own branches. With `share_global`, every iteration uses
    the first global branch. M_1(u_1), M_2(u_2) and so on are sown as `fusion_weights` in the
    collection `intermediates`.

    Attributes:
        reduction: Reduction r; a branch has `max(1, C // r)` hidden channels.
        hidden: Number of hidden channels of a branch, or a function that returns it for C, such
            as `lambda channels: max(channels // 4, 16)`. None is `max(1, C // r)`.
        gain: Factor of the output of every iteration.
        iterations: Number of iterations. The paper uses 2, and 1 is AFF.
        share_global: Use the first iteration's global branch in every iteration. Open-aff's
            PyTorch port does this; its second global branch exists and is never read.
        combine: How u_1 is made of x and y. "add" adds them, as in the paper. "concat"
            concatenates their channels.
        scales: Branches of each M_i whose outputs are summed, each "local" or "global".
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
        Dai et al., Attentional Feature Fusion, 2021, section 4.2, equation 5; open-aff's
        `aff_pytorch/aff_net/fusion.py`, and open-aff's issues 31 and 37 for the shared branch.
        `aff_jax.fusion` says which feature map of a network is x.
    """

    reduction: float = 4
    hidden: int | Callable[[int], int] | None = None
    gain: float = 1.0
    iterations: int = 2
    share_global: bool = False
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
        """Compute every iteration and return the last one."""
        if self.iterations < 1:
            raise ValueError(f"IAFF: expected at least one iteration, got {self.iterations}.")
        branches_of_iterations = self._make_branches_of_iterations(x.shape[-1])
        sigmoid = Sigmoid(self.logit_scale, self.implementation, name="sigmoid")
        u = combine_inputs(x, y, self.combine)
        for branches in branches_of_iterations:
            M = sigmoid(attention_logits(branches, self.scales, u, train), train)
            self.sow("intermediates", FUSION_WEIGHTS, M)
            z = weighted_sum(x, y, M, self.gain, self.implementation)
            u = z
        return z

    def _make_branches_of_iterations(self, channels: int) -> list[list[Branch]]:
        """Make the branches of every iteration."""
        first = make_branches(self, channels)
        branches_of_iterations = [first]
        for iteration in range(2, self.iterations + 1):
            branches = [
                first[position]
                if self.share_global and scale == "global"
                else make_branch(self, position, channels, iteration=iteration)
                for position, scale in enumerate(self.scales)
            ]
            branches_of_iterations.append(branches)
        return branches_of_iterations
