"""The authors' networks for CIFAR: a pre-activation ResNet whose skips are fused."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from aff_jax.fusion.registry import Fusion, make_fusion
from aff_jax.layers import (
    BatchNorm,
    ConvNorm,
    NormFactory,
    average_pool,
    check_images,
    convolution,
)

__all__ = ["CIFARResNet"]

STAGE_WIDTHS = (16, 32, 64)


class CIFARResNet(nn.Module):
    """Pre-activation ResNet of depth 6b + 2 for small images, its skips fused.

        stem:  3x3 convolution of the normalised image
        block: fuse(conv(act(norm(conv(act(norm(x)))))), skip(x))
        head:  dense(mean(act(norm(x))))

    Three stages of widths 16, 32 and 64 times `width`; the second and the third start with stride
    2, where skip is a 2x2 average pool and a 1x1 convolution.

    **Fields:** `num_classes`; `blocks_per_stage` b; `width`; `fusion`, a registered name or a
    function that makes a module, and its `fusion_fields`; `reduction` r of the fusions;
    `fusion_start`, the first stage (from 1) that has them, earlier ones add; `deep_stem`, three
    convolutions of widths w/2, w/2, w instead of one; `norm`; `kernel_init`; `dtype` of the
    computation (None: from input and parameters); `param_dtype`.

    Source: open-aff `model/classification.py` (CIFARAFFResNet), `model/block.py` and
    `train_cifar.py`; paper section 4.1.
    """

    num_classes: int = 10
    blocks_per_stage: int = 1
    width: int = 1
    fusion: Fusion = "aff"
    fusion_fields: Mapping[str, Any] = nn.FrozenDict()
    reduction: int = 4
    fusion_start: int = 1
    deep_stem: bool = False
    norm: NormFactory = BatchNorm
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Logits of each class.

        Raises:
            TypeError: `images` are not floating point.
            ValueError: `images` do not have four axes; or see `BatchNorm` for `train`.
        """
        check_images(self, images)
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        weights: dict[str, Any] = {"kernel_init": self.kernel_init, **dtypes}
        # The reference's first norm has neither scale nor offset: it only centres the image.
        x = self.norm(use_scale=False, use_bias=False, name="input_norm", **dtypes)(
            images, train=train
        )
        features = STAGE_WIDTHS[0] * self.width
        if self.deep_stem:
            for index in (1, 2):
                stem = ConvNorm(
                    features // 2,
                    activation=nn.relu,
                    norm=self.norm,
                    name=f"deep_stem{index}",
                    **weights,
                )
                x = stem(x, train)
        x = convolution(features, name="stem", **weights)(x)

        for stage, stage_width in enumerate(STAGE_WIDTHS, start=1):
            fused = stage >= self.fusion_start
            for index in range(self.blocks_per_stage):
                block = PreActivationBlock(
                    stage_width * self.width,
                    strides=2 if stage > 1 and index == 0 else 1,
                    fusion=self.fusion if fused else "add",
                    fusion_fields=self.fusion_fields if fused else nn.FrozenDict(),
                    reduction=self.reduction,
                    norm=self.norm,
                    name=f"stage{stage}_block{index}",
                    **weights,
                )
                x = block(x, train)

        x = nn.relu(self.norm(name="norm", **dtypes)(x, train=train))
        return nn.Dense(self.num_classes, name="head", **weights)(jnp.mean(x, axis=(1, 2)))


class PreActivationBlock(nn.Module):
    """Two 3x3 convolutions, each after norm and ReLU, fused with the skip.

        fuse(conv2(act(norm2(conv1(act(norm1(x)))))), skip(x))

    **Fields:** as of `CIFARResNet`; `features` out; `strides` of the first convolution.
    """

    features: int
    strides: int = 1
    fusion: Fusion = "aff"
    fusion_fields: Mapping[str, Any] = nn.FrozenDict()
    reduction: int = 4
    norm: NormFactory = BatchNorm
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in_channels"], train: bool = False
    ) -> Float[Array, "batch out_height out_width features"]:
        """Apply to `x`; height and width are divided by `strides` and rounded up."""
        dtypes: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        weights: dict[str, Any] = {"kernel_init": self.kernel_init, **dtypes}
        identity = x
        x = nn.relu(self.norm(name="norm1", **dtypes)(x, train=train))
        x = convolution(self.features, strides=self.strides, name="conv1", **weights)(x)
        x = nn.relu(self.norm(name="norm2", **dtypes)(x, train=train))
        x = convolution(self.features, name="conv2", **weights)(x)

        if self.strides > 1 or identity.shape[-1] != self.features:
            identity = average_pool(identity, self.strides)
            identity = convolution(self.features, kernel=1, name="downsample", **weights)(identity)
        fuse = make_fusion(
            self.fusion,
            self.fusion_fields,
            name="fuse",
            reduction=self.reduction,
            norm=self.norm,
            **weights,
        )
        return fuse(x, identity, train)
