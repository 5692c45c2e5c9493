"""The authors' ResNet and ResNeXt for ImageNet: GluonCV's v1d networks with fusions."""

import flax.linen as nn
from flax.typing import Initializer
from jaxtyping import Array

from aff_jax.hosts.post_activation import PostActivationHost
from aff_jax.nn.pooling import max_pool

__all__ = ["MSRA_PRELU", "ResNetV1d"]

MSRA_PRELU = nn.initializers.variance_scaling(2 / (1 + 0.25**2), "fan_avg", "normal")
"""MXNet's MSRAPrelu with slope 1/4, the authors' initializer of all kernels, including the head."""


class ResNetV1d(PostActivationHost):
    """ResNet and ResNeXt with a deep stem and average pools on the skip connections ("v1d").

    The stem is::

        max_pool(s3(s2(s1(images)))),  s_i(x) = relu(norm(conv3x3(x)))

    The convolutions of the stem have `stem_width`, `stem_width` and twice as many channels. The
    first has stride 2. By default stages 1 and 2 add, and later stages fuse. The other fields are
    inherited from `PostActivationHost` and `Host`, with the authors' defaults.

    Attributes:
        stem_width: Channels of the first convolution. The authors have 32 in ResNet and 64 in
            ResNeXt.

    References:
        Dai et al., Attentional Feature Fusion, 2021, section 4.3; open-aff
        `model/classification.py` (AFFResNet, AFFResNeXt), `model/block.py` and
        `train_imagenet.py`; Tong He et al., Bag of Tricks for Image Classification, 2018, section
        4, for the "d".
    """

    average_skip: bool = True
    zero_init_last_scale: bool = True
    reduction: float = 16
    kernel_init: Initializer = MSRA_PRELU
    fusion_start: int = 3
    head_init: Initializer | None = MSRA_PRELU
    stem_width: int = 32

    def apply_stem(self, images: Array, train: bool) -> Array:
        """Apply the stem; see `Host.apply_stem`.

        The output has 2 * `stem_width` channels. Height and width are divided by 4 and rounded up.
        """
        x = self.conv_norm_factory(self.stem_width, strides=2, name="stem1")(images, train)
        x = self.conv_norm_factory(self.stem_width, name="stem2")(x, train)
        x = self.conv_norm_factory(2 * self.stem_width, name="stem3")(x, train)
        return max_pool(x)
