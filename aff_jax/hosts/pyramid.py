"""Hosts for segmentation with fused long skip connections: FPN and U-Net."""

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
    """Base class of hosts that compute logits for each pixel.

    A CIFAR ResNet computes the feature maps c_1, c_2, c_3, of the size of the images, 1/2 and 1/4.
    A path back up fuses them, and the head follows::

        z_3    = c_3
        z_i    = refine_i(fuse_i(up_i(relu(norm(z_(i+1)))), c_i))
        logits = dense(relu(norm(conv3x3(relu(norm(z_1))))))

    The input x of a fusion is the deeper map, and y is the lateral map c_i, as x is the residual
    branch and y the identity in a residual block. Only these long skip connections are fused. The
    short ones of the backbone add in every variant, so that variants differ only in the long ones.
    Sizes may be odd: a deeper map is resized to its lateral map.

    With `normalize_inputs`, both inputs of a fusion are normalized::

        z_i = refine_i(fuse_i(norm(up_i(relu(norm(z_(i+1))))), relu(norm(c_i))))

    The maps c_i of a pre-activation backbone are sums without a norm, so by default x and y can
    have different scales. docs/results.md has results with and without these norms.

    With `features_only` the result is (z_1, z_2, z_3). `blocks_per_stage` counts the blocks of the
    backbone. The fusion with c_i belongs to stage i: it adds if i is less than `fusion_start`.

    These are not the networks of open-acm with other fusions. There the backbone is
    post-activation, the transposed convolutions have biases, a convolution follows each fusion, and
    the 3x3 convolution of the head has a quarter of the channels and dropout. No fields set these,
    because no weights with a fusion of the paper are published that such a network could load.

    Attributes:
        width: Factor of the number of channels of all stages, as in `CIFARResNet`.
        normalize_inputs: Normalize both inputs of each fusion.

    References:
        Dai et al., Attentional Feature Fusion, 2021, section 4.3; open-acm
        `model/segmentation.py`, by the same authors, for the path up and the head.
    """

    num_classes: int = 10
    width: int = 1
    normalize_inputs: bool = False

    def feature_maps(self, images: Array, train: bool) -> tuple[Array, ...]:
        """Compute z_1, z_2 and z_3; see `Host.feature_maps`."""
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
            x = nn.relu(self.norm_factory(name=f"norm{level + 1}")(deeper, train=train))
            x = self.upsample(level, x, lateral)
            if self.normalize_inputs:
                x = self.norm_factory(name=f"up{level}_norm")(x, train=train)
                lateral = self.norm_factory(name=f"lateral{level}_norm")(lateral, train=train)
                lateral = nn.relu(lateral)
            x = self.fusion_factory(level)(name=f"fuse{level}")(x, lateral, train)
            maps[level - 1] = self.refine(level, x, train)
        return tuple(maps)

    def head_input(self, maps: tuple[Array, ...], train: bool) -> Array:
        """Compute the input of the dense layer, `(batch, height, width, channels)`.

        It has the height and width of the images.
        """
        x = nn.relu(self.norm_factory(name="norm1")(maps[0], train=train))
        return self.conv_norm_factory(x.shape[-1], name="head_conv")(x, train)

    def upsample(self, level: int, x: Array, lateral: Array) -> Array:
        """Bring the deeper map to the shape of the lateral map.

        Args:
            level: Number i of the lateral map c_i.
            x: Deeper map `(batch, height, width, channels)`.
            lateral: Lateral map c_i.

        Returns:
            Array of the shape of `lateral`.
        """
        raise NotImplementedError

    def refine(self, level: int, x: Array, train: bool) -> Array:
        """Apply the layers that follow a fusion.

        Args:
            level: Number i of the lateral map c_i.
            x: Output of the fusion, `(batch, height, width, channels)`.
            train: Normalize with the statistics of the batch, and update the running ones.

        Returns:
            Array of the shape of `x`.
        """
        raise NotImplementedError


class FPN(PyramidHost):
    """Feature pyramid network, which projects and resizes the deeper map before each fusion.

    The path up is::

        z_i = fuse_i(Align_i(relu(norm(z_(i+1))), c_i), c_i)

    The fields are inherited from `PyramidHost` and `Host`.

    References:
        As in `PyramidHost` (ASKCResNetFPN); Lin et al., Feature Pyramid Networks, 2017. Each map
        keeps the channels of the backbone, as in open-acm. Lin et al. project all maps to 256
        channels.
    """

    def upsample(self, level: int, x: Array, lateral: Array) -> Array:
        """Project to the channels of the lateral map and resize bilinearly to its size."""
        return Align(name=f"up{level}", **self.layer_fields)(x, lateral)

    def refine(self, level: int, x: Array, train: bool) -> Array:
        """Return `x` unchanged: no layers follow a fusion."""
        return x


class UNet(PyramidHost):
    """U-Net, with transposed convolutions on the path up and residual blocks after each fusion.

    The path up is::

        z_i = blocks_i(fuse_i(crop(up_i(relu(norm(z_(i+1))))), c_i))

    where up_i is a 4x4 transposed convolution, which doubles the size. If the lateral map has one
    row or column less, the result is cropped at the bottom or on the right. Level i has as many
    blocks as stage i of the backbone, and their skip connections add. The fields are inherited
    from `PyramidHost` and `Host`.

    References:
        As in `PyramidHost` (ASKCResUNet); Ronneberger et al., U-Net, 2015. There, maps are
        concatenated, and cropped because convolutions are not padded.
    """

    def upsample(self, level: int, x: Array, lateral: Array) -> Array:
        """Double the size and crop to the size of the lateral map."""
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
        """Apply the residual blocks of a level, which keep the shape."""
        for index in range(self.blocks_per_stage[level - 1]):
            block = PreActivationBlock(
                x.shape[-1],
                conv_factory=self.conv_factory,
                norm_factory=self.norm_factory,
                fusion_factory=partial(Add, dtype=self.dtype),
                name=f"up{level}_block{index}",
            )
            x = apply_block(block, x, train, self.remat)
        return x
