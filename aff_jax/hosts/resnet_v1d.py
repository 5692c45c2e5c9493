"""The authors' networks for ImageNet: GluonCV's v1d shape with fused skips."""

import flax.linen as nn
from flax.typing import Initializer
from jaxtyping import Array

from aff_jax.hosts.resnet import ResidualHost
from aff_jax.nn.pooling import max_pool

__all__ = ["ResNetV1d"]

# MXNet's MSRAPrelu of slope 1/4, with which the authors start every weight, the dense layer's too.
MSRA_PRELU = nn.initializers.variance_scaling(2 / (1 + 0.25**2), "fan_avg", "normal")


class ResNetV1d(ResidualHost):
    """ResNet and ResNeXt with a deep stem and average pools on the skips ("v1d").

        stem: max_pool(three of act(norm(3x3 convolution)))

    The stem's convolutions have `stem_width`, `stem_width` and twice that many channels, the first
    one strides. Stages 1 and 2 add, later ones fuse.

    **Fields:** those of `ResidualHost`, with the authors' defaults; `stem_width`, 32 in their
    ResNet and 64 in their ResNeXt.

    Source: open-aff `model/classification.py` (AFFResNet, AFFResNeXt), `model/block.py` and
    `train_imagenet.py`; paper section 4.1; Tong He et al., 2018, section 4, for the "d".
    """

    average_skip: bool = True
    zero_init_last_scale: bool = True
    reduction: int = 16
    kernel_init: Initializer = MSRA_PRELU
    fusion_start: int = 3
    head_init: Initializer = MSRA_PRELU
    stem_width: int = 32

    def apply_stem(self, images: Array, train: bool) -> Array:
        """2 * `stem_width` channels, a quarter of the size."""
        x = self.conv_norm("stem1", self.stem_width, strides=2)(images, train)
        x = self.conv_norm("stem2", self.stem_width)(x, train)
        x = self.conv_norm("stem3", 2 * self.stem_width)(x, train)
        return max_pool(x)
