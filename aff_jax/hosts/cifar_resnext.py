"""The authors' ResNeXt for CIFAR, with fused skip connections."""

from collections.abc import Sequence

import flax.linen as nn
from flax.typing import Initializer
from jaxtyping import Array

from aff_jax.hosts.post_activation import PostActivationHost

__all__ = ["CIFARResNeXt"]


class CIFARResNeXt(PostActivationHost):
    """ResNeXt of depth 9b + 2 for small images, with fused skip connections.

    The stem is::

        relu(norm(3x3 convolution))

    Three stages have b bottlenecks each, with 64, 128 and 256 channels and four times as many
    output channels. Their projections follow average pools. The fields are inherited
    from `PostActivationHost` and `Host`, with the authors' defaults.

    References:
        Dai et al., Attentional Feature Fusion, 2021, section 4.3; open-aff
        `model/classification.py` (CIFARAFFResNeXt), `model/block.py` and `train_cifar.py`. In its
        blocks `last_gamma=False` initializes the last scale with zeros.
    """

    num_classes: int = 10
    blocks_per_stage: Sequence[int] = (3, 3, 3)
    groups: int = 32
    width_per_group: int = 4
    average_skip: bool = True
    zero_init_last_scale: bool = True
    reduction: float = 16
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    head_init: Initializer | None = nn.initializers.xavier_uniform()

    def apply_stem(self, images: Array, train: bool) -> Array:
        """Compute `base_channels` channels of the size of the images; see `Host.apply_stem`."""
        return self.conv_norm_factory(self.base_channels, name="stem")(images, train)
