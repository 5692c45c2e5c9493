"""Baselines without attention: addition and concatenation."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array

from aff_jax.fusion.base import Fusion
from aff_jax.nn.batch_norm import BatchNorm
from aff_jax.nn.norm import NormFactory, make_norm

__all__ = ["Add", "Concat"]


class Add(Fusion):
    """Addition, as in ResNet and FPN.

    The output is::

        Add(x, y) = x + y

    The fields are inherited from `Fusion`.

    References:
        Dai et al., Attentional Feature Fusion, 2021, table 1, "Addition".
    """

    def fuse(self, x: Array, y: Array, train: bool) -> Array:
        """Compute `x + y`."""
        return x + y


class Concat(Fusion):
    """Concatenation and a pointwise projection, as in Inception and U-Net.

    The output is::

        Concat(x, y) = W B([x, y]) + b

    W projects the 2 C channels to C, so that this fusion can replace addition. The batch
    normalization B brings x and y to the same scale first. It has no bias, since b has the same
    effect. The halves of W for x and y are the paper's W_B and W_A, since its X is y.

    Attributes:
        norm: Function that makes the normalization B, or None for none, as in the paper.
        kernel_init: Initializer of W.
        param_dtype: Dtype of the parameters.
        dtype: See `Fusion`.
        remat: See `Fusion`.

    References:
        Dai et al., Attentional Feature Fusion, 2021, table 1, "Concatenation".
    """

    norm: NormFactory | None = BatchNorm
    kernel_init: Initializer = nn.initializers.lecun_normal()
    param_dtype: Dtype = jnp.float32

    def fuse(self, x: Array, y: Array, train: bool) -> Array:
        """Compute `W BN([x, y]) + b`."""
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        both = jnp.concatenate([x, y], axis=-1)
        norm = make_norm(self.norm, use_bias=False, name="concat_norm", **dtypes)
        project = nn.Dense(x.shape[-1], kernel_init=self.kernel_init, name="project", **dtypes)
        return project(norm(both, train=train))
