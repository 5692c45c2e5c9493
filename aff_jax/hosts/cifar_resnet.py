"""The authors' pre-activation ResNet for CIFAR."""

import flax.linen as nn

from aff_jax.hosts.base import ModuleFactory
from aff_jax.hosts.pre_activation import PreActivationBlock, PreActivationHost

__all__ = ["CIFARResNet"]


class CIFARResNet(PreActivationHost):
    """Pre-activation ResNet of depth 6b + 2 for small images, with fused skip connections.

    The block is::

        fuse(conv2(relu(norm2(conv1(relu(norm1(x)))))), skip(x))

    The fields are inherited from `PreActivationHost` and `Host`.

    References:
        Dai et al., Attentional Feature Fusion, 2021, section 4.3; open-aff
        `model/classification.py` (CIFARAFFResNet), `model/block.py` and `train_cifar.py`.
    """

    def make_block(
        self, *, channels: int, strides: int, fusion_factory: ModuleFactory, name: str
    ) -> nn.Module:
        """Make a block with a fused skip connection; see `Host.make_block`."""
        return PreActivationBlock(
            channels,
            conv_factory=self.conv_factory,
            norm_factory=self.norm_factory,
            fusion_factory=fusion_factory,
            strides=strides,
            name=name,
        )
