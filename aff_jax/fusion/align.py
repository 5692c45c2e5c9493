"""Align: how a feature map is brought to the shape of another before they are fused."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from aff_jax.nn.input_checks import check_input

__all__ = ["Align"]


class Align(nn.Module):
    """Bring x to the shape of y, as in `fuse(Align()(x, y), y)`.

        Align(x, y) = resize(W x)

    W is a 1x1 convolution to y's channels, left out where x has as many; `resize` is (bi)linear to
    y's spatial size, with half-pixel centres and, where it shrinks, a kernel that is wider by as
    much, so that no value goes unseen. The projection comes first: y is most often the larger one.
    Both are linear and have neither bias nor norm.

    **Fields:** `kernel_init`; `dtype` of the computation (None: from input and parameters);
    `param_dtype`.

    **Variables:** `params` project/kernel, `(x channels, y channels)`, where these differ.

    Source: Lin et al., 2017, figure 3, for the projection; open-acm `model/segmentation.py`, which
    reduces channels and resizes bilinearly in front of each fusion.
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
        """Give `x` the shape of `y`, of which nothing but the shape is read.

        Raises:
            TypeError: an input is not floating point.
            ValueError: batch or number of axes differ, or are fewer than two.
        """
        check_input(self, x=x, y=y)
        if (x.ndim, x.shape[0]) != (y.ndim, y.shape[0]):
            raise ValueError(
                f"Align: expected x and y of one batch and with as many axes, got {x.shape} and "
                f"{y.shape}. Only the spatial size and the number of channels can be brought "
                f"together."
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
