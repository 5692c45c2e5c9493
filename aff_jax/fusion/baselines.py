"""What attentional fusion is compared with: fusions whose weights no context changes."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from aff_jax.fusion.attentional import check_pair
from aff_jax.layers import BatchNorm, NormFactory

__all__ = ["Add", "Concat"]


class Add(nn.Module):
    """Addition, as in ResNet and FPN.

        Add(x, y) = x + y

    **Fields:** `dtype` of the computation (None: from inputs).

    Source: paper table 1, "Addition".
    """

    dtype: Dtype | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *spatial channels"],
        y: Float[Array, "batch *spatial channels"],
        train: bool = False,
    ) -> Float[Array, "batch *spatial channels"]:
        """Add `x` and `y`; `train` changes nothing.

        Raises:
            TypeError: an input is not floating point.
            ValueError: shapes differ, or have fewer than two axes.
        """
        check_pair(self, x, y)
        x, y = promote_dtype(x, y, dtype=self.dtype)
        return x + y


class Concat(nn.Module):
    """Concatenation and a pointwise projection, as in Inception and U-Net.

        Concat(x, y) = W BN([x, y]) + b

    W takes the 2 C channels back to C, so that it can stand where addition stands. The batch norm
    brings x and y to one scale first; it has no offset of its own, which b would repeat.

    **Fields:** `norm`; `kernel_init`; `dtype` of the computation (None: from inputs and
    parameters); `param_dtype`.

    Source: paper table 1, "Concatenation", which has no batch norm.
    """

    norm: NormFactory = BatchNorm
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *spatial channels"],
        y: Float[Array, "batch *spatial channels"],
        train: bool = False,
    ) -> Float[Array, "batch *spatial channels"]:
        """Fuse `x` and `y`.

        Raises:
            TypeError: an input is not floating point.
            ValueError: shapes differ, an input has fewer than two axes, or see `BatchNorm` for
                `train`.
        """
        check_pair(self, x, y)
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        z = jnp.concatenate([x, y], axis=-1)
        z = self.norm(use_bias=False, name="concat_norm", **dtypes)(z, train=train)
        return nn.Dense(x.shape[-1], kernel_init=self.kernel_init, name="project", **dtypes)(z)
