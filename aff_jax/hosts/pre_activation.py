"""Pre-activation residual networks: the block, and the base class of its hosts."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from aff_jax.hosts.base import Host, ModuleFactory
from aff_jax.nn.norm import NormFactory
from aff_jax.nn.pooling import average_pool

__all__ = ["PreActivationBlock", "PreActivationHost", "shortcut"]


class PreActivationBlock(nn.Module):
    """Two 3x3 convolutions, each after normalization and ReLU, fused with a skip.

    The output is::

        fuse(conv2(relu(norm2(conv1(relu(norm1(x)))))), skip(x))

    where skip is `shortcut`. Nothing follows the fusion.

    Attributes:
        channels: Number of output channels.
        conv: Function that makes a convolution, as `convolution`.
        norm: Function that makes a normalization layer.
        fusion: Function that makes the fusion.
        strides: Stride of the first convolution.

    References:
        Dai et al., Attentional Feature Fusion, 2021, section 4.1; open-aff `model/block.py`. He et
        al., Identity Mappings in Deep Residual Networks, 2016, for pre-activation.
    """

    channels: int
    conv: Callable[..., nn.Conv]
    norm: NormFactory
    fusion: ModuleFactory
    strides: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in_channels"], train: bool = False
    ) -> Float[Array, "batch out_height out_width channels"]:
        """Apply the block. Height and width are divided by `strides` and rounded up."""
        residual = nn.relu(self.norm(name="norm1")(x, train=train))
        residual = self.conv(self.channels, strides=self.strides, name="conv1")(residual)
        residual = nn.relu(self.norm(name="norm2")(residual, train=train))
        residual = self.conv(self.channels, name="conv2")(residual)
        identity = shortcut(x, self.channels, self.strides, self.conv)
        fused: Array = self.fusion(name="fuse")(residual, identity, train)
        return fused


def shortcut(x: Array, channels: int, strides: int, conv: Callable[..., nn.Conv]) -> Array:
    """Return the skip of a pre-activation block.

    The skip is `x`. Where the block changes the size or the number of channels, it is an average
    pool over `strides` and a 1x1 convolution named `downsample`, without normalization.
    """
    if strides == 1 and x.shape[-1] == channels:
        return x
    return conv(channels, kernel=1, name="downsample")(average_pool(x, strides))


class PreActivationHost(Host):
    """Base class of pre-activation networks for small images.

    The stem is a convolution of the normalized images. The input of the head is::

        mean(relu(final_norm(x)))

    The blocks of the first stage have 16 times `width` channels. With b blocks in each of three
    stages the depth is 6b + 2. The feature maps of `features_only` are those that the next stage
    reads, without `final_norm`.

    Attributes:
        width: Factor of the number of channels of all stages.
        deep_stem: Use three convolutions in the stem, with w/2, w/2 and w channels, instead of one
            with w channels.
    """

    num_classes: int = 10
    blocks_per_stage: Sequence[int] = (1, 1, 1)
    width: int = 1
    deep_stem: bool = False

    @property
    def first_channels(self) -> int:
        """The `channels` of the blocks of the first stage."""
        return 16 * self.width

    def apply_stem(self, images: Array, train: bool) -> Array:
        """Normalize and convolve the images, without a change of their size."""
        # As in the reference, the first norm only normalizes: it has neither scale nor bias.
        norm = self.make_norm(use_scale=False, use_bias=False, name="input_norm")
        x: Array = norm(images, train=train)
        channels = self.first_channels
        if self.deep_stem:
            for index in (1, 2):
                x = self.make_conv_norm(channels // 2, name=f"deep_stem{index}")(x, train)
        return self.make_conv(channels, name="stem")(x)

    def head_input(self, maps: tuple[Array, ...], train: bool) -> Array:
        """Return the mean of the last map after normalization and ReLU."""
        # Not named "norm": a submodule must not have the name of a field.
        x = nn.relu(self.make_norm(name="final_norm")(maps[-1], train=train))
        return jnp.mean(x, axis=(1, 2))
