"""InceptionNet for CIFAR, which fuses the outputs of two kernel sizes within a layer."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
from jaxtyping import Array, Float

from aff_jax.hosts.base import ModuleFactory
from aff_jax.hosts.pre_activation import PreActivationHost, skip_connection
from aff_jax.nn.norm import NormFactory

__all__ = ["InceptionBlock", "InceptionLayer", "InceptionNet"]


class InceptionLayer(nn.Module):
    """A 3x3 and a 5x5 convolution of the same feature map, fused.

    The output is::

        fuse(norm5x5(conv5x5(x)), norm3x3(conv3x3(x)))

    Each convolution has a norm, so that the inputs of the fusion have the same scale. It has no
    activation, because the block continues with a norm and ReLU.

    Attributes:
        channels: Number of output channels.
        conv_factory: Function that makes a convolution, such as `Host.conv_factory`.
        norm_factory: Function of `name` that makes a layer, called as `(x, train=train)`, such as
            `Host.norm_factory`.
        fusion_factory: Function that makes the fusion.
        strides: Stride of both convolutions.
        dilated: Use a 3x3 kernel with dilation 2, which covers 5x5 pixels, instead of the 5x5
            kernel.

    References:
        Dai et al., Attentional Feature Fusion, 2021, section 4.1: its X, the output of the 3x3
        kernel, is the second input here, and its Y, of the 5x5 kernel, the first; open-aff
        `model/atac/convolution.py` for the norms, and for the dilation, as in SKNet.
    """

    channels: int
    conv_factory: Callable[..., nn.Conv]
    norm_factory: NormFactory
    fusion_factory: ModuleFactory
    strides: int = 1
    dilated: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in_channels"], train: bool = False
    ) -> Float[Array, "batch out_height out_width channels"]:
        """Apply the layer.

        Args:
            x: Array `(batch, height, width, in_channels)`.
            train: Normalize with the statistics of the batch, and update the running ones.

        Returns:
            Array with `channels` channels. Height and width are divided by `strides` and rounded
            up.
        """
        conv = partial(self.conv_factory, self.channels, strides=self.strides)
        x3 = conv(kernel_size=3, name="conv3x3")(x)
        x3 = self.norm_factory(name="norm3x3")(x3, train=train)
        wide = {"kernel_size": 3, "dilation": 2} if self.dilated else {"kernel_size": 5}
        x5 = conv(**wide, name="conv5x5")(x)
        x5 = self.norm_factory(name="norm5x5")(x5, train=train)
        fused: Array = self.fusion_factory(name="fuse")(x5, x3, train)
        return fused


class InceptionBlock(nn.Module):
    """A pre-activation block of two Inception layers, with an added skip connection.

    The output is::

        conv2(relu(norm2(conv1(relu(norm1(x)))))) + skip(x)

    where conv1 and conv2 are Inception layers and skip is `skip_connection`. The skip connection is
    added in every variant, so that variants differ only in the fusions within the layers.

    Attributes:
        channels: Number of output channels.
        conv_factory: Function that makes a convolution, such as `Host.conv_factory`.
        norm_factory: Function of `name` that makes a layer, called as `(x, train=train)`, such as
            `Host.norm_factory`.
        fusion_factory: Function that makes the fusion of a layer.
        strides: Stride of the first layer.
        dilated: As in `InceptionLayer`.

    References:
        open-aff `model/atac/classification.py`, ResBlockV2DyReF.
    """

    channels: int
    conv_factory: Callable[..., nn.Conv]
    norm_factory: NormFactory
    fusion_factory: ModuleFactory
    strides: int = 1
    dilated: bool = False

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
        layer = partial(
            InceptionLayer,
            self.channels,
            conv_factory=self.conv_factory,
            norm_factory=self.norm_factory,
            fusion_factory=self.fusion_factory,
            dilated=self.dilated,
        )
        residual = nn.relu(self.norm_factory(name="norm1")(x, train=train))
        residual = layer(strides=self.strides, name="conv1")(residual, train)
        residual = nn.relu(self.norm_factory(name="norm2")(residual, train=train))
        residual = layer(name="conv2")(residual, train)
        return residual + skip_connection(x, self.channels, self.strides, self.conv_factory)


class InceptionNet(PreActivationHost):
    """InceptionNet of depth 6b + 2 for small images: `CIFARResNet` with Inception layers.

    The layer and the block are::

        layer(x) = fuse(norm(conv5x5(x)), norm(conv3x3(x)))
        block(x) = layer(relu(norm(layer(relu(norm(x)))))) + skip(x)

    The two convolutions of a layer count once in the depth. The authors published neither weights
    nor parameter counts of this network. Its blocks follow their unreleased experiments in
    open-aff. The stem is a single 3x3 convolution, as in the ResNet.

    Attributes:
        dilated: Use 3x3 kernels with dilation 2 instead of 5x5 kernels, as in open-aff.

    References:
        Dai et al., Attentional Feature Fusion, 2021, section 4.3; open-aff
        `model/atac/classification.py` (ResNet20V2DyReF) and `model/atac/convolution.py`.
    """

    dilated: bool = False

    def make_block(
        self, *, channels: int, strides: int, fusion_factory: ModuleFactory, name: str
    ) -> nn.Module:
        """Make a block of Inception layers; see `Host.make_block`."""
        return InceptionBlock(
            channels,
            conv_factory=self.conv_factory,
            norm_factory=self.norm_factory,
            fusion_factory=fusion_factory,
            strides=strides,
            dilated=self.dilated,
            name=name,
        )
