"""Hosts for segmentation with fused long skips: a feature pyramid network and a U-Net."""

from functools import partial

import flax.linen as nn
from jaxtyping import Array

from aff_jax.fusion.align import Align
from aff_jax.fusion.baselines import Add
from aff_jax.hosts.base import Host, apply_block
from aff_jax.hosts.cifar_resnet import CIFARResNet
from aff_jax.hosts.pre_activation import PreActivationBlock

__all__ = ["FPN", "PyramidHost", "UNet"]


class PyramidHost(Host):
    """Base class of hosts that return a class for each pixel.

    A CIFAR ResNet computes the maps c_1, c_2, c_3, of the size of the images, 1/2 and 1/4. A path
    back up fuses them, and the head follows::

        z_3 = c_3,  z_i = refine_i(fuse_i(up_i(relu(norm(z_(i+1)))), c_i))
        logits = dense(relu(norm(3x3 convolution of relu(norm(z_1)))))

    The fusion's x is the deeper map and its y is the lateral map c_i, as x is the residual branch
    and y the identity in a residual block. Only these long skips are fused. The short skips of the
    backbone add, so that a comparison of fusions is one of the long skips. Sizes need not be even:
    a deeper map is brought to the size of its lateral map.

    With `features_only` the result is (z_1, z_2, z_3). `blocks_per_stage` is that of the backbone.
    A skip into the map c_i belongs to stage i: it adds where i is less than `fusion_start`.

    Attributes:
        width: Factor of the number of channels of all stages, as in `CIFARResNet`.

    References:
        Dai et al., Attentional Feature Fusion, 2021, sections 3.3 and 4.1; open-acm
        `model/segmentation.py`, by the same authors, for the path up and the head. There the
        backbone is post-activation, and the head's 3x3 convolution has a quarter of the channels
        and dropout.
    """

    num_classes: int = 10
    width: int = 1

    def feature_maps(self, images: Array, train: bool) -> tuple[Array, ...]:
        """Return z_1, z_2, z_3."""
        backbone = CIFARResNet(
            features_only=True,
            blocks_per_stage=self.blocks_per_stage,
            width=self.width,
            fusion="add",
            norm=self.norm,
            remat=self.remat,
            name="backbone",
            **self.layer_fields,
        )
        maps = list(backbone(images, train))
        for level in reversed(range(1, len(maps))):
            deeper, lateral = maps[level], maps[level - 1]
            x = nn.relu(self.make_norm(name=f"norm{level + 1}")(deeper, train=train))
            x = self.upsample(level, x, lateral)
            x = self.make_fusion(level)(name=f"fuse{level}")(x, lateral, train)
            maps[level - 1] = self.refine(level, x, train)
        return tuple(maps)

    def head_input(self, maps: tuple[Array, ...], train: bool) -> Array:
        """Return the map of the head's convolution, of the size of the images."""
        x = nn.relu(self.make_norm(name="norm1")(maps[0], train=train))
        return self.make_conv_norm(x.shape[-1], name="head_conv")(x, train)

    def upsample(self, level: int, x: Array, lateral: Array) -> Array:
        """Return `x` in the shape of the lateral map of a level."""
        raise NotImplementedError

    def refine(self, level: int, x: Array, train: bool) -> Array:
        """Apply the layers that follow the fusion of a level. They keep the shape."""
        raise NotImplementedError


class FPN(PyramidHost):
    """Feature pyramid network: projection and bilinear resize up, and no layers after the fusion.

    The path up is::

        z_i = fuse_i(Align_i(relu(norm(z_(i+1))), c_i), c_i)

    The fields are those of `PyramidHost` and `Host`.

    References:
        As in `PyramidHost` (ASKCResNetFPN); Lin et al., Feature Pyramid Networks, 2017. The widths
        stay those of the backbone, as in open-acm. Lin et al. project all maps to 256 channels.
    """

    def upsample(self, level: int, x: Array, lateral: Array) -> Array:
        """Project to the channels of the lateral map and resize to its size."""
        return Align(name=f"up{level}", **self.layer_fields)(x, lateral)

    def refine(self, level: int, x: Array, train: bool) -> Array:
        """Return `x` unchanged."""
        return x


class UNet(PyramidHost):
    """U-Net: transposed convolutions up, and residual blocks after the fusion.

    The path up is::

        z_i = blocks_i(fuse_i(crop(4x4 transposed convolution of relu(norm(z_(i+1)))), c_i))

    The convolution doubles the size. Where the lateral map is smaller by a row or a column, the
    result is cropped at the bottom or on the right. Level i has as many blocks as stage i of the
    backbone; they add. The fields are those of `PyramidHost` and `Host`.

    References:
        As in `PyramidHost` (ASKCResUNet); Ronneberger et al., U-Net, 2015, where maps are
        concatenated, and cropped because convolutions are not padded.
    """

    def upsample(self, level: int, x: Array, lateral: Array) -> Array:
        """Double the size and crop to that of the lateral map."""
        double = nn.ConvTranspose(
            lateral.shape[-1],
            (4, 4),
            strides=(2, 2),
            padding="SAME",
            transpose_kernel=True,  # a kernel of (out, in), as in PyTorch and MXNet
            use_bias=False,
            name=f"up{level}",
            **self.layer_fields,
        )
        return double(x)[:, : lateral.shape[1], : lateral.shape[2]]

    def refine(self, level: int, x: Array, train: bool) -> Array:
        """Apply the residual blocks of a level."""
        for index in range(self.blocks_per_stage[level - 1]):
            block = PreActivationBlock(
                x.shape[-1],
                conv=self.make_conv,
                norm=self.make_norm,
                fusion=partial(Add, dtype=self.dtype),
                name=f"up{level}_block{index}",
            )
            x = apply_block(block, x, train, self.remat)
        return x
