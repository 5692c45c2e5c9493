"""Pre-activation residual networks: the block, and the base class of its hosts."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from aff_jax.hosts.base import Host, ModuleFactory
from aff_jax.nn.norm import NormFactory
from aff_jax.nn.pooling import average_pool

__all__ = ["PreActivationBlock", "PreActivationHost", "skip_connection"]


class PreActivationBlock(nn.Module):
    """Two 3x3 convolutions, each after normalization and ReLU, fused with a skip connection.

    The output is::

        fuse(conv2(relu(norm2(conv1(relu(norm1(x)))))), skip(x))

    where skip is `skip_connection`. Nothing follows the fusion.

    Attributes:
        channels: Number of output channels.
        conv_factory: Function that makes a convolution, such as `Host.conv_factory`.
        norm_factory: Function of `name` that makes a layer, called as `(x, train=train)`, such as
            `Host.norm_factory`.
        fusion_factory: Function that makes the fusion.
        strides: Stride of the first convolution.

    References:
        Dai et al., Attentional Feature Fusion, 2021, section 4.3; open-aff `model/block.py`. He et
        al., Identity Mappings in Deep Residual Networks, 2016, for pre-activation.
    """

    channels: int
    conv_factory: Callable[..., nn.Conv]
    norm_factory: NormFactory
    fusion_factory: ModuleFactory
    strides: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in_channels"], train: bool = False
    ) -> Float[Array, "batch out_height out_width channels"]:
        """Apply the block.

        Args:
            x: Array `(batch, height, width, in_channels)`.
            train: Normalize with the statistics of the batch, and update the running ones.

        Returns:
            Array with `channels` channels. Height and width are divided by `strides` and rounded
            up.
        """
        residual = nn.relu(self.norm_factory(name="norm1")(x, train=train))
        residual = self.conv_factory(self.channels, strides=self.strides, name="conv1")(residual)
        residual = nn.relu(self.norm_factory(name="norm2")(residual, train=train))
        residual = self.conv_factory(self.channels, name="conv2")(residual)
        identity = skip_connection(x, self.channels, self.strides, self.conv_factory)
        fused: Array = self.fusion_factory(name="fuse")(residual, identity, train)
        return fused


def skip_connection(
    x: Float[Array, "batch height width in_channels"],
    channels: int,
    strides: int,
    conv_factory: Callable[..., nn.Conv],
) -> Float[Array, "batch out_height out_width channels"]:
    """Compute the skip connection of a pre-activation block.

    If the block keeps the shape, the skip connection is the identity. Otherwise it is::

        skip(x) = W average_pool(x)

    where the pool has windows of the size of the stride, and the projection W is a 1x1 convolution
    named `downsample`, without normalization.

    Args:
        x: Input of the block, `(batch, height, width, in_channels)`.
        channels: Number of output channels of the block.
        strides: Stride of the block.
        conv_factory: Function that makes a convolution, such as `Host.conv_factory`.

    Returns:
        Array with `channels` channels. Height and width are divided by `strides` and rounded up.
    """
    if strides == 1 and x.shape[-1] == channels:
        return x
    return conv_factory(channels, kernel_size=1, name="downsample")(average_pool(x, strides))


class PreActivationHost(Host):
    """Base class of pre-activation networks for small images.

    The stem is a convolution of the normalized images. The input of the head is::

        mean(relu(final_norm(x)))

    The blocks of the first stage have 16 times `width` channels. With b blocks in each of three
    stages the depth is 6b + 2. The feature maps of `features_only` are those that the next stage
    reads, without `final_norm`.

    Attributes:
        width: Factor of the number of channels of all stages.
        deep_stem: Use three convolutions in the stem instead of one. The first two have half of
            the channels of the first stage.
    """

    num_classes: int = 10
    blocks_per_stage: Sequence[int] = (1, 1, 1)
    width: int = 1
    deep_stem: bool = False

    @property
    def first_channels(self) -> int:
        """Return the number of channels of the first stage."""
        return 16 * self.width

    def apply_stem(self, images: Array, train: bool) -> Array:
        """Normalize the images and apply the convolutions; see `Host.apply_stem`.

        The output has the size of the images and `first_channels` channels.
        """
        # As in open-aff, the first norm only normalizes: it has neither scale nor bias.
        norm = self.norm_factory(use_scale=False, use_bias=False, name="input_norm")
        x: Array = norm(images, train=train)
        channels = self.first_channels
        if self.deep_stem:
            for index in (1, 2):
                x = self.conv_norm_factory(channels // 2, name=f"deep_stem{index}")(x, train)
        return self.conv_factory(channels, name="stem")(x)

    def head_input(self, maps: tuple[Array, ...], train: bool) -> Array:
        """Compute the mean of the last feature map after normalization and ReLU."""
        # Not named "norm": a submodule must not have the name of a field.
        x = nn.relu(self.norm_factory(name="final_norm")(maps[-1], train=train))
        return jnp.mean(x, axis=(1, 2))
