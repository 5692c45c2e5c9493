"""What attentional fusion is compared with: fusions whose weights no context changes."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array

from aff_jax.fusion.base import Fusion
from aff_jax.nn.batch_norm import BatchNorm, NormFactory

__all__ = ["Add", "Concat"]


class Add(Fusion):
    """Addition, as in ResNet and FPN.

        Add(x, y) = x + y

    **Fields:** those of `Fusion`.

    Source: paper table 1, "Addition".
    """

    def fuse(self, x: Array, y: Array, train: bool) -> Array:
        """The formula, of two arrays of one shape and dtype."""
        return x + y


class Concat(Fusion):
    """Concatenation and a pointwise projection, as in Inception and U-Net.

        Concat(x, y) = W BN([x, y]) + b

    W takes the 2 C channels back to C, so that it can stand where addition stands. The batch norm
    brings x and y to one scale first; it has no offset of its own, which b would repeat.

    **Fields:** `norm`; `kernel_init`; `param_dtype`; and those of `Fusion`.

    Source: paper table 1, "Concatenation", which has no batch norm.
    """

    norm: NormFactory = BatchNorm
    kernel_init: Initializer = nn.initializers.lecun_normal()
    param_dtype: Dtype = jnp.float32

    def fuse(self, x: Array, y: Array, train: bool) -> Array:
        """The formula, of two arrays of one shape and dtype."""
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        z = jnp.concatenate([x, y], axis=-1)
        z = self.norm(use_bias=False, name="concat_norm", **dtypes)(z, train=train)
        return nn.Dense(x.shape[-1], kernel_init=self.kernel_init, name="project", **dtypes)(z)
