"""The authors' networks for CIFAR: what pre-activation hosts share, and ResNet with fused skips."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from aff_jax.fusion.registry import FusionSpec, make_fusion
from aff_jax.nn.batch_norm import BatchNorm, NormFactory
from aff_jax.nn.convolution import ConvNorm, convolution
from aff_jax.nn.dtypes import logits_dtype
from aff_jax.nn.input_checks import check_images
from aff_jax.nn.pooling import average_pool
from aff_jax.nn.rematerialization import apply_block

__all__ = ["CIFARResNet", "PreActivationBlock", "PreActivationHost", "ResNetBlock"]

STAGE_WIDTHS = (16, 32, 64)


class PreActivationModule(nn.Module):
    """The fields that a pre-activation network hands on to its blocks, and what both are built of.

    **Fields:** `fusion`, a registered name or a function that makes a module, and its
    `fusion_fields`; `reduction` r of the fusions; `norm`; `kernel_init`; `dtype` of the computation
    (None: from input and parameters); `param_dtype`.
    """

    fusion: FusionSpec = "aff"
    fusion_fields: Mapping[str, Any] = nn.FrozenDict()
    reduction: int = 4
    norm: NormFactory = BatchNorm
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    def dtypes(self) -> dict[str, Any]:
        """The fields of every layer."""
        return {"dtype": self.dtype, "param_dtype": self.param_dtype}

    def weights(self) -> dict[str, Any]:
        """The fields of every layer with a kernel."""
        return {"kernel_init": self.kernel_init, **self.dtypes()}

    def make_head(self, num_classes: int) -> nn.Dense:
        """The dense layer that gives logits."""
        weights = {**self.weights(), "dtype": logits_dtype(self.dtype)}
        return nn.Dense(num_classes, name="head", **weights)

    def make_fuse(self, name: str) -> nn.Module:
        """A submodule of that name that fuses."""
        return make_fusion(
            self.fusion,
            self.fusion_fields,
            name=name,
            reduction=self.reduction,
            norm=self.norm,
            **self.weights(),
        )

    def activate(self, name: str, x: Array, train: bool) -> Array:
        """act(norm(x)), what stands in front of a convolution; `name` is the norm's."""
        return nn.relu(self.norm(name=name, **self.dtypes())(x, train=train))


class PreActivationBlock(PreActivationModule):
    """Two convolutions, each after norm and ReLU, and a skip.

        join(conv2(act(norm2(conv1(act(norm1(x)))))), skip(x))

    skip(x) is x itself; or, where the size or the channels change, an average pool over `strides`
    and a 1x1 convolution.

    **Fields:** those of `PreActivationModule`; `channels` out; `strides` of the first convolution.
    """

    channels: int = 16
    strides: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in_channels"], train: bool = False
    ) -> Float[Array, "batch out_height out_width channels"]:
        """Apply to `x`; height and width are divided by `strides` and rounded up."""
        residual = self.convolve("conv1", self.activate("norm1", x, train), self.strides, train)
        residual = self.convolve("conv2", self.activate("norm2", residual, train), 1, train)
        identity = x
        if self.strides > 1 or x.shape[-1] != self.channels:
            identity = average_pool(x, self.strides)
            project = convolution(self.channels, kernel=1, name="downsample", **self.weights())
            identity = project(identity)
        return self.join(residual, identity, train)

    def convolve(self, name: str, x: Array, strides: int, train: bool) -> Array:
        """One of the two convolutions, to `channels`."""
        raise NotImplementedError

    def join(self, residual: Array, identity: Array, train: bool) -> Array:
        """What becomes of the residual branch and the skip."""
        raise NotImplementedError


class ResNetBlock(PreActivationBlock):
    """A block of 3x3 convolutions, fused with the skip.

        fuse(conv2(act(norm2(conv1(act(norm1(x)))))), skip(x))

    **Fields:** those of `PreActivationBlock`.

    Source: open-aff `model/block.py`; paper section 4.1.
    """

    def convolve(self, name: str, x: Array, strides: int, train: bool) -> Array:
        """A 3x3 convolution."""
        return convolution(self.channels, strides=strides, name=name, **self.weights())(x)

    def join(self, residual: Array, identity: Array, train: bool) -> Array:
        """The fusion of both."""
        return self.make_fuse("fuse")(residual, identity, train)


class PreActivationHost(PreActivationModule):
    """A pre-activation network of depth 6b + 2 for small images; families choose the block.

        stem: 3x3 convolution of the normalised image
        head: dense(mean(act(norm(x))))

    Three stages of widths 16, 32 and 64 times `width`; the second and the third start with stride
    2.

    **Fields:** `num_classes`; `features`, whether the result is the pyramid instead of logits: the
    last map of each stage, shallow to deep, as the next stage reads it, before norm and ReLU, and
    neither the last norm nor the head; `blocks_per_stage` b; `width`; `fusion_start`, the first
    stage (from 1) that has fusions, earlier ones add; `deep_stem`, three convolutions of widths
    w/2, w/2, w instead of one; `remat`, whether gradients compute a block's activations anew
    instead of keeping them, for less memory, or which of them, as in `Fusion`; and those of
    `PreActivationModule`.
    """

    num_classes: int = 10
    features: bool = False
    blocks_per_stage: int = 1
    width: int = 1
    fusion_start: int = 1
    deep_stem: bool = False
    remat: bool | str = False

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch classes"] | tuple[Array, ...]:
        """Logits of each class; or with `features` maps of the size of the images, 1/2 and 1/4.

        Raises:
            TypeError: `images` are not floating point.
            ValueError: `images` do not have four axes; or see `BatchNorm` for `train`.
        """
        check_images(self, images)
        handed_on = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(PreActivationModule)
            if field.name not in ("parent", "name")
        }
        x = self.apply_stem(images, train)
        pyramid = []
        for stage, stage_width in enumerate(STAGE_WIDTHS, start=1):
            fields = {**handed_on, "channels": stage_width * self.width}
            if stage < self.fusion_start:
                fields.update(fusion="add", fusion_fields=nn.FrozenDict())
            for index in range(self.blocks_per_stage):
                strides = 2 if stage > 1 and index == 0 else 1
                block = self.make_block(
                    strides=strides, name=f"stage{stage}_block{index}", **fields
                )
                x = apply_block(block, x, train, self.remat)
            pyramid.append(x)
        if self.features:
            return tuple(pyramid)
        x = self.activate("norm", x, train)
        return self.make_head(self.num_classes)(jnp.mean(x, axis=(1, 2)))

    def apply_stem(self, images: Array, train: bool) -> Array:
        """16 times `width` channels, of the size of the images."""
        # The reference's first norm has neither scale nor offset: it only centres the image.
        normalise = self.norm(use_scale=False, use_bias=False, name="input_norm", **self.dtypes())
        x = normalise(images, train=train)
        channels = STAGE_WIDTHS[0] * self.width
        if self.deep_stem:
            for index in (1, 2):
                stem = ConvNorm(
                    channels // 2,
                    activation=nn.relu,
                    norm=self.norm,
                    name=f"deep_stem{index}",
                    **self.weights(),
                )
                x = stem(x, train)
        return convolution(channels, name="stem", **self.weights())(x)

    def make_block(self, **fields: Any) -> PreActivationBlock:
        """The block with those fields."""
        raise NotImplementedError


class CIFARResNet(PreActivationHost):
    """Pre-activation ResNet of depth 6b + 2 for small images, its skips fused.

        block: fuse(conv(act(norm(conv(act(norm(x)))))), skip(x))

    **Fields:** those of `PreActivationHost`.

    Source: open-aff `model/classification.py` (CIFARAFFResNet), `model/block.py` and
    `train_cifar.py`; paper section 4.1.
    """

    def make_block(self, **fields: Any) -> ResNetBlock:
        """A block with fused skips."""
        return ResNetBlock(**fields)
