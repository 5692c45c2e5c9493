"""The authors' ResNeXt for CIFAR, with fused skips."""

from collections.abc import Sequence

import flax.linen as nn
from flax.typing import Initializer
from jaxtyping import Array

from aff_jax.hosts.resnet import ResidualHost

__all__ = ["CIFARResNeXt"]


class CIFARResNeXt(ResidualHost):
    """ResNeXt of depth 9b + 2 for small images, its skips fused.

        stem: act(norm(3x3 convolution))

    Three stages of b bottlenecks with 64, 128 and 256 channels, four times that many
    between them, and average pools on the skips.

    **Fields:** those of `ResidualHost`, with the authors' defaults.

    Source: open-aff `model/classification.py` (CIFARAFFResNeXt), `model/block.py`, where
    `last_gamma=False` is what zeroes the last scale, and `train_cifar.py`; paper section 4.1.
    """

    groups: int = 32
    width_per_group: int = 4
    average_skip: bool = True
    zero_init_last_scale: bool = True
    reduction: int = 16
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    num_classes: int = 10
    blocks_per_stage: Sequence[int] = (3, 3, 3)
    head_init: Initializer = nn.initializers.xavier_uniform()

    def apply_stem(self, images: Array, train: bool) -> Array:
        """`base_channels`, of the size of the images."""
        return self.conv_norm("stem", self.base_channels)(images, train)
