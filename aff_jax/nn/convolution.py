"""Two-dimensional convolutions with the padding of PyTorch and MXNet."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from aff_jax.nn.batch_norm import BatchNorm
from aff_jax.nn.norm import NormFactory, make_norm

__all__ = ["ConvNorm", "make_conv"]


class ConvNorm(nn.Module):
    """A convolution without bias, a normalization and an optional activation.

    The output is::

        y = activation(norm(conv(x)))

    Attributes:
        channels: Number of output channels.
        kernel_size: Height and width of the kernel.
        strides: Stride in both directions.
        groups: Number of groups of the convolution.
        activation: Function that is applied last, or None.
        norm: Function that makes the normalization.
        kernel_init: Initializer of the kernel.
        dtype: Dtype of the computation. None infers it from the input and the parameters.
        param_dtype: Dtype of the parameters.
    """

    channels: int
    kernel_size: int = 3
    strides: int = 1
    groups: int = 1
    activation: Callable[[Array], Array] | None = None
    norm: NormFactory = BatchNorm
    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in_channels"], train: bool = False
    ) -> Float[Array, "batch out_height out_width channels"]:
        """Apply the layers to `x`.

        Args:
            x: Array `(batch, height, width, in_channels)`.
            train: Normalize with the statistics of the batch, and update the running ones.

        Returns:
            Array with `channels` channels; height and width are divided by `strides` and rounded
            up.
        """
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = make_conv(
            self.channels,
            self.kernel_size,
            self.strides,
            self.groups,
            kernel_init=self.kernel_init,
            name="conv",
            **dtypes,
        )(x)
        x = make_norm(self.norm, name="norm", **dtypes)(x, train=train)
        return x if self.activation is None else self.activation(x)


def make_conv(
    channels: int,
    kernel_size: int = 3,
    strides: int = 1,
    groups: int = 1,
    dilation: int = 1,
    **fields: Any,
) -> nn.Conv:
    """Make a two-dimensional convolution without bias, padded by half its span on every side.

    The padding is `kernel_size // 2 * dilation`. PyTorch and MXNet pad like this. XLA's "SAME" pads
    a strided convolution on one side only.

    Args:
        channels: Number of output channels.
        kernel_size: Height and width of the kernel.
        strides: Stride in both directions.
        groups: Number of groups.
        dilation: Distance between the values of the kernel, in pixels.
        **fields: Further fields of `flax.linen.Conv`.

    Returns:
        The layer.
    """
    return nn.Conv(
        channels,
        (kernel_size, kernel_size),
        strides=strides,
        padding=kernel_size // 2 * dilation,
        kernel_dilation=dilation,
        feature_group_count=groups,
        use_bias=False,
        **fields,
    )
