"""What every module here is built of: convolutions, poolings, and what gradients compute anew."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from aff_jax.nn.batch_norm import BatchNorm, NormFactory

__all__ = [
    "ConvNorm",
    "convolution",
]


class ConvNorm(nn.Module):
    """A convolution without bias, then a norm, then an optional activation.

        y = activation(norm(W * x))

    **Fields:** `features` out; `kernel` size; `strides`; `groups`; `activation` or None; `norm`;
    `kernel_init`; `dtype`; `param_dtype`.
    """

    features: int
    kernel: int = 3
    strides: int = 1
    groups: int = 1
    activation: Callable[[Array], Array] | None = None
    norm: NormFactory = BatchNorm
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch out_height out_width features"]:
        """Apply to `x`; height and width are divided by `strides` and rounded up."""
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = convolution(
            self.features,
            self.kernel,
            self.strides,
            self.groups,
            kernel_init=self.kernel_init,
            name="conv",
            **dtypes,
        )(x)
        x = self.norm(name="norm", **dtypes)(x, train=train)
        return x if self.activation is None else self.activation(x)


def convolution(
    features: int, kernel: int = 3, strides: int = 1, groups: int = 1, **fields: Any
) -> nn.Conv:
    """A two-dimensional convolution without bias, padded by kernel // 2 on every side.

    PyTorch and MXNet pad so; XLA's "SAME" would pad a strided convolution on one side only.
    `fields` are further ones of `flax.linen.Conv`.
    """
    return nn.Conv(
        features,
        (kernel, kernel),
        strides=strides,
        padding=kernel // 2,
        feature_group_count=groups,
        use_bias=False,
        **fields,
    )
