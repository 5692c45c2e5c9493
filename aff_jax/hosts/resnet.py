"""Residual networks with fused skips: the blocks, what the families share, torchvision's shape."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from aff_jax.fusion.registry import FusionSpec, make_fusion
from aff_jax.lookup import look_up
from aff_jax.nn.batch_norm import BatchNorm, NormFactory
from aff_jax.nn.convolution import ConvNorm
from aff_jax.nn.dtypes import logits_dtype
from aff_jax.nn.input_checks import check_images
from aff_jax.nn.pooling import average_pool, max_pool
from aff_jax.nn.rematerialization import apply_block

__all__ = ["BasicBlock", "Bottleneck", "ResNet", "ResidualHost"]


class ResidualModule(nn.Module):
    """The fields that a residual network hands on to its blocks, and what both are built of.

    **Fields:** `groups` and `width_per_group` of a bottleneck, which has `groups` times channels *
    width_per_group / 64 channels inside; `average_skip`, whether a skip that changes size is an
    average pool and a 1x1 convolution instead of a strided 1x1 convolution;
    `zero_init_last_scale`, whether the scale of the last norm before each fusion starts at zero;
    `fusion`, a registered name or a function that makes a module, and its `fusion_fields`;
    `reduction` r of the fusions; `norm`; `kernel_init` of convolutions and fusions; `dtype` of the
    computation (None: from input and parameters); `param_dtype`.
    """

    groups: int = 1
    width_per_group: int = 64
    average_skip: bool = False
    zero_init_last_scale: bool = False
    fusion: FusionSpec = "aff"
    fusion_fields: Mapping[str, Any] = nn.FrozenDict()
    reduction: int = 4
    norm: NormFactory = BatchNorm
    kernel_init: Initializer = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    def conv_norm(self, name: str, features: int, **fields: Any) -> ConvNorm:
        """A submodule of that name; activation (ReLU) and norm may be given."""
        own: dict[str, Any] = {
            "activation": nn.relu,
            "norm": self.norm,
            "kernel_init": self.kernel_init,
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
        }
        return ConvNorm(features, name=name, **{**own, **fields})


class ResidualBlock(ResidualModule):
    """A residual branch, fused with the skip.

        act(fuse(residual(x), skip(x)))

    skip(x) is x itself, or a 1x1 convolution and a norm where the size or the channels change.

    **Fields:** those of `ResidualModule`; `channels` of the 3x3 convolution, and its `strides`,
    which divide the size.
    """

    channels: int = 64
    strides: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in_channels"], train: bool = False
    ) -> Float[Array, "batch out_height out_width out_channels"]:
        """Apply to `x`; height and width are divided by `strides` and rounded up."""
        residual = self.residual(x, train)
        fuse = make_fusion(
            self.fusion,
            self.fusion_fields,
            name="fuse",
            reduction=self.reduction,
            norm=self.norm,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        return nn.relu(fuse(residual, self.skip(x, residual.shape[-1], train), train))

    def residual(self, x: Array, train: bool) -> Array:
        """The residual branch, without an activation at its end."""
        raise NotImplementedError

    def skip(self, x: Array, channels: int, train: bool) -> Array:
        """`x` in the shape of the residual branch."""
        if self.strides == 1 and x.shape[-1] == channels:
            return x
        strides = self.strides
        if self.average_skip:
            # The pool divides by counts in single precision; bfloat16 stays bfloat16.
            x, strides = average_pool(x, strides), 1
        downsample = self.conv_norm(
            "downsample", channels, kernel=1, strides=strides, activation=None
        )
        return downsample(x, train)

    def last_conv_norm(self, name: str, features: int, **fields: Any) -> ConvNorm:
        """The one in front of the fusion: without an activation."""
        norm = self.norm
        if self.zero_init_last_scale:
            norm = functools.partial(norm, scale_init=nn.initializers.zeros)
        return self.conv_norm(name, features, activation=None, norm=norm, **fields)


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions: residual(x) = norm2(conv2(act(norm1(conv1(x))))).

    **Fields:** those of `ResidualBlock`.

    Source: He et al., 2015, figure 5, left.
    """

    def residual(self, x: Array, train: bool) -> Array:
        """The residual branch, with `channels`.

        Raises:
            ValueError: fields of a bottleneck are given.
        """
        if (self.groups, self.width_per_group) != (1, 64):
            raise ValueError(
                f"BasicBlock: expected groups=1 and width_per_group=64, got {self.groups} and "
                f"{self.width_per_group}. Only block='bottleneck' has groups and a width of them."
            )
        x = self.conv_norm("conv1", self.channels, strides=self.strides)(x, train)
        return self.last_conv_norm("conv2", self.channels)(x, train)


class Bottleneck(ResidualBlock):
    """A 3x3 convolution, in groups, between two 1x1 ones; four times `channels` come out.

        residual(x) = norm3(conv3(act(norm2(conv2(act(norm1(conv1(x))))))))

    The 3x3 convolution strides.

    **Fields:** those of `ResidualBlock`.

    Source: He et al., 2015, figure 5, right; Xie et al., 2016, figure 3c, for the groups.
    """

    def residual(self, x: Array, train: bool) -> Array:
        """The residual branch, with 4 * `channels`."""
        hidden = max(1, self.channels * self.width_per_group // 64) * self.groups
        x = self.conv_norm("conv1", hidden, kernel=1)(x, train)
        x = self.conv_norm("conv2", hidden, strides=self.strides, groups=self.groups)(x, train)
        return self.last_conv_norm("conv3", 4 * self.channels, kernel=1)(x, train)


BLOCKS: dict[str, Callable[..., ResidualBlock]] = {"basic": BasicBlock, "bottleneck": Bottleneck}
"""Blocks by name."""


class ResidualHost(ResidualModule):
    """A stem, stages of residual blocks, and a dense layer on the mean; families add the stem.

        head: dense(mean(x))

    Every stage but the first starts with stride 2 and twice the channels of the one before.

    **Fields:** `num_classes`; `features`, whether the result is the pyramid instead of logits: the
    last map of each stage, shallow to deep, and no head; `blocks_per_stage`, one number a stage;
    `base_channels`, those of the first stage's blocks; `block`, "basic" or "bottleneck";
    `fusion_start`, the first stage (from 1) that has fusions, earlier ones add; `head_init` of the
    dense layer; `remat`, whether gradients compute a block's activations anew instead of keeping
    them, for less memory, or which of them, as in `Fusion`; and those of `ResidualModule`.
    """

    num_classes: int = 1000
    features: bool = False
    base_channels: int = 64
    blocks_per_stage: Sequence[int] = (3, 4, 6, 3)
    block: str = "bottleneck"
    fusion_start: int = 1
    head_init: Initializer = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    remat: bool | str = False

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch classes"] | tuple[Array, ...]:
        """Logits of each class; or with `features` a map a stage, half the size of the one before.

        Raises:
            TypeError: `images` are not floating point.
            ValueError: `images` do not have four axes, `block` is unknown or has no such groups;
                or see `BatchNorm` for `train`.
        """
        check_images(self, images)
        make_block = look_up(BLOCKS, "block", self.block)
        handed_on = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(ResidualModule)
            if field.name not in ("parent", "name")
        }
        x = self.apply_stem(images, train)
        pyramid = []
        for stage, blocks in enumerate(self.blocks_per_stage, start=1):
            fields = {**handed_on, "channels": self.base_channels * 2 ** (stage - 1)}
            if stage < self.fusion_start:
                fields.update(fusion="add", fusion_fields=nn.FrozenDict())
            for index in range(blocks):
                strides = 2 if stage > 1 and index == 0 else 1
                block = make_block(strides=strides, name=f"stage{stage}_block{index}", **fields)
                x = apply_block(block, x, train, self.remat)
            pyramid.append(x)
        if self.features:
            return tuple(pyramid)
        head = nn.Dense(
            self.num_classes,
            kernel_init=self.head_init,
            dtype=logits_dtype(self.dtype),
            param_dtype=self.param_dtype,
            name="head",
        )
        return head(jnp.mean(x, axis=(1, 2)))

    def apply_stem(self, images: Array, train: bool) -> Array:
        """What comes before the first stage."""
        raise NotImplementedError


class ResNet(ResidualHost):
    """ResNet, ResNeXt and Wide ResNet in torchvision's shape.

        stem: max_pool(act(norm(7x7 convolution of stride 2)))

    The names in `hosts.registry` set the depth, the groups and their width.

    **Fields:** those of `ResidualHost`; `small_input`, whether the stem's convolution is 3x3 with
    stride 1 (the max pool stays). Weights start as PyTorch's: normal with variance 2 / fan_out in
    convolutions, uniform in the dense layer.

    Source: open-aff `aff_pytorch/aff_net/aff_resnet.py`, after torchvision `models/resnet.py`; He
    et al., 2015; Xie et al., 2016; Zagoruyko and Komodakis, 2016.
    """

    small_input: bool = False

    def apply_stem(self, images: Array, train: bool) -> Array:
        """`base_channels`, a quarter of the size, or half of it where `small_input`."""
        kernel, strides = (3, 1) if self.small_input else (7, 2)
        x = self.conv_norm("stem", self.base_channels, kernel=kernel, strides=strides)(
            images, train
        )
        return max_pool(x)
