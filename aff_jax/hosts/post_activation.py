"""Residual networks with ReLU after the fusion: their blocks, and the base class of their hosts."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
from flax.typing import Initializer
from jaxtyping import Array, Float

from aff_jax.hosts.base import Host, ModuleFactory
from aff_jax.lookup import look_up
from aff_jax.nn.convolution import ConvNorm
from aff_jax.nn.norm import NormFactory
from aff_jax.nn.pooling import average_pool

__all__ = ["BasicBlock", "Bottleneck", "PostActivationBlock", "PostActivationHost"]


class PostActivationBlock(nn.Module):
    """Base class of residual blocks with ReLU after the fusion.

    The output is::

        relu(fuse(residual(x), skip(x)))

    If the block keeps the shape, skip(x) is x. Otherwise it is a projection: a 1x1 convolution and
    a norm, named `downsample`.

    Attributes:
        channels: Number of channels of the 3x3 convolutions. `Bottleneck` computes both of its
            numbers of channels from it.
        conv_norm_factory: Function that makes a `ConvNorm` with ReLU.
        norm: Function that makes a normalization layer.
        fusion_factory: Function that makes the fusion.
        strides: Stride of the first 3x3 convolution.
        average_skip: Where the size changes, use an average pool and a projection of stride 1 on
            the skip connection instead of a strided projection.
        zero_init_last_scale: Initialize the scale of the last norm before the fusion with zeros.
    """

    channels: int
    conv_norm_factory: Callable[..., ConvNorm]
    norm: NormFactory
    fusion_factory: ModuleFactory
    strides: int = 1
    average_skip: bool = False
    zero_init_last_scale: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in_channels"], train: bool = False
    ) -> Float[Array, "batch out_height out_width out_channels"]:
        """Apply the block.

        Args:
            x: Array `(batch, height, width, in_channels)`.
            train: Normalize with the statistics of the batch, and update the running ones.

        Returns:
            Array with the channels of the residual branch. Height and width are divided by
            `strides` and rounded up.
        """
        residual = self.residual(x, train)
        identity = self.skip_connection(x, residual.shape[-1], train)
        return nn.relu(self.fusion_factory(name="fuse")(residual, identity, train))

    def residual(self, x: Array, train: bool) -> Array:
        """Compute the residual branch, which ends without an activation.

        Args:
            x: Array `(batch, height, width, in_channels)`.
            train: Normalize with the statistics of the batch, and update the running ones.

        Returns:
            Array `(batch, out_height, out_width, out_channels)`.
        """
        raise NotImplementedError

    def skip_connection(self, x: Array, channels: int, train: bool) -> Array:
        """Compute the skip connection.

        Args:
            x: Array `(batch, height, width, in_channels)`.
            channels: Number of channels of the residual branch.
            train: Normalize with the statistics of the batch, and update the running ones.

        Returns:
            Array of the shape of the residual branch.
        """
        if self.strides == 1 and x.shape[-1] == channels:
            return x
        strides = self.strides
        if self.average_skip:
            x, strides = average_pool(x, strides), 1
        downsample = self.conv_norm_factory(
            channels, kernel_size=1, strides=strides, activation=None, name="downsample"
        )
        return downsample(x, train)

    def last_conv_norm(self, channels: int, **fields: Any) -> ConvNorm:
        """Make the last convolution and norm of the residual branch, without an activation.

        Args:
            channels: Number of output channels.
            **fields: Further fields of `ConvNorm`.

        Returns:
            The layer. With `zero_init_last_scale` its norm initializes the scale with zeros.
        """
        norm = self.norm
        if self.zero_init_last_scale:
            norm = partial(norm, scale_init=nn.initializers.zeros)
        return self.conv_norm_factory(channels, activation=None, norm=norm, **fields)


class BasicBlock(PostActivationBlock):
    """Two 3x3 convolutions.

    The residual branch is::

        norm2(conv2(relu(norm1(conv1(x)))))

    References:
        He et al., Deep Residual Learning for Image Recognition, 2015, figure 5, left.
    """

    def residual(self, x: Array, train: bool) -> Array:
        """Compute the residual branch, with `channels` channels."""
        x = self.conv_norm_factory(self.channels, strides=self.strides, name="conv1")(x, train)
        return self.last_conv_norm(self.channels, name="conv2")(x, train)


class Bottleneck(PostActivationBlock):
    """A 3x3 convolution between two 1x1 convolutions. It has 4 times `channels` output channels.

    The residual branch is::

        norm3(conv3(relu(norm2(conv2(relu(norm1(conv1(x))))))))

    The 3x3 convolution has the stride, and `groups * channels * width_per_group / 64` channels.

    Attributes:
        groups: Number of groups of the 3x3 convolution.
        width_per_group: Channels of each group of the 3x3 convolution where `channels` is 64.

    References:
        He et al., Deep Residual Learning for Image Recognition, 2015, figure 5, right; Xie et al.,
        Aggregated Residual Transformations for Deep Neural Networks, 2016, figure 3c, for the
        groups.
    """

    groups: int = 1
    width_per_group: int = 64

    def residual(self, x: Array, train: bool) -> Array:
        """Compute the residual branch, with 4 times `channels` channels."""
        hidden = max(1, self.channels * self.width_per_group // 64) * self.groups
        x = self.conv_norm_factory(hidden, kernel_size=1, name="conv1")(x, train)
        conv2 = self.conv_norm_factory(
            hidden, strides=self.strides, groups=self.groups, name="conv2"
        )
        x = conv2(x, train)
        return self.last_conv_norm(4 * self.channels, kernel_size=1, name="conv3")(x, train)


class PostActivationHost(Host):
    """Base class of residual networks with ReLU after each fusion.

    Attributes:
        block: Kind of the blocks, "basic" or "bottleneck".
        base_channels: `channels` of the blocks of the first stage.
        groups: Number of groups of the 3x3 convolutions of bottlenecks.
        width_per_group: Channels of each of these groups in the first stage if `base_channels` is
            64, and in proportion otherwise.
        average_skip: Where the size changes, use an average pool and a projection of stride 1 on
            the skip connection instead of a strided projection.
        zero_init_last_scale: Initialize the scale of the last norm before each fusion with zeros.
    """

    blocks_per_stage: Sequence[int] = (3, 4, 6, 3)
    block: str = "bottleneck"
    base_channels: int = 64
    groups: int = 1
    width_per_group: int = 64
    average_skip: bool = False
    zero_init_last_scale: bool = False
    # PyTorch's initializers, as torchvision sets them.
    kernel_init: Initializer = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
    head_init: Initializer | None = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")

    @property
    def first_channels(self) -> int:
        """Return the field `channels` of the blocks of the first stage."""
        return self.base_channels

    def make_block(
        self, *, channels: int, strides: int, fusion_factory: ModuleFactory, name: str
    ) -> nn.Module:
        """Make a block of the kind that `block` names; see `Host.make_block`.

        Raises:
            ValueError: If `block` is unknown, or basic blocks are given groups.
        """
        make = look_up(self._block_factories(), "block", self.block)
        return make(
            channels,
            conv_norm_factory=self.conv_norm_factory,
            norm=self.norm,
            fusion_factory=fusion_factory,
            strides=strides,
            average_skip=self.average_skip,
            zero_init_last_scale=self.zero_init_last_scale,
            name=name,
        )

    def _block_factories(self) -> dict[str, ModuleFactory]:
        if self.block == "basic" and (self.groups, self.width_per_group) != (1, 64):
            raise ValueError(
                f"{type(self).__name__}: expected groups=1 and width_per_group=64 with "
                f"block='basic', got {self.groups} and {self.width_per_group}. Only "
                f"block='bottleneck' has groups."
            )
        bottleneck = partial(Bottleneck, groups=self.groups, width_per_group=self.width_per_group)
        return {"basic": BasicBlock, "bottleneck": bottleneck}
