"""Align: bring a feature map to the shape of another one, so that both can be fused."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from aff_jax.nn.checked_module import CheckedModule
from aff_jax.nn.input_checks import check_input

__all__ = ["Align"]


class Align(CheckedModule):
    """Bring x to the shape of y, as in `fuse(Align()(x, y), y)`.

    The output is::

        Align(x, y) = resize(W x)

    W is a 1x1 convolution to the channels of y, and is left out if x has as many. `resize` is
    (bi)linear with half-pixel centers. Where it shrinks, its kernel is wider by the same factor
    (antialiasing). The projection comes first because y is most often the larger map. Neither has
    a bias or a norm.

    The collection `params` has `project/kernel`, `(x channels, y channels)`, if these differ.

    Attributes:
        kernel_init: Initializer of W.
        dtype: Dtype of the computation. None infers it from x and the parameters.
        param_dtype: Dtype of the parameters.

    References:
        Lin et al., Feature Pyramid Networks, 2017, figure 3, for the projection; open-acm's
        `model/segmentation.py`, which reduces channels and resizes bilinearly before each fusion.
    """

    kernel_init: Initializer = nn.initializers.lecun_normal()
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *spatial channels"],
        y: Float[Array, "batch *other_spatial other_channels"],
    ) -> Float[Array, "batch *other_spatial other_channels"]:
        """Bring `x` to the shape of `y`.

        Args:
            x: Floating-point array `(batch, *spatial, channels)`.
            y: Array with the same batch and number of axes. Only its shape is used.

        Returns:
            Array of the shape of `y`.

        Raises:
            TypeError: If an input is not floating point.
            ValueError: If the batch or the number of axes differ, or there are fewer than two axes.
        """
        check_input(self, x=x, y=y)
        if (x.ndim, x.shape[0]) != (y.ndim, y.shape[0]):
            raise ValueError(
                f"Align: expected x and y with the same batch size and number of axes, got "
                f"{x.shape} and {y.shape}. Only the spatial size and the channels can be aligned."
            )
        if self.dtype is not None:
            x = jnp.asarray(x, self.dtype)
        if x.shape[-1] != y.shape[-1]:
            x = nn.Dense(
                y.shape[-1],
                use_bias=False,
                kernel_init=self.kernel_init,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name="project",
            )(x)
        if x.shape != y.shape:
            x = jax.image.resize(x, y.shape, "linear")
        return x
