"""Hosts for segmentation whose long skips are fused: a feature pyramid network and a U-Net."""

import flax.linen as nn
from jaxtyping import Array, Float

from aff_jax.fusion.align import Align
from aff_jax.hosts.cifar import CIFARResNet, PreActivationModule, ResNetBlock
from aff_jax.nn.convolution import ConvNorm
from aff_jax.nn.input_checks import check_images
from aff_jax.nn.rematerialization import apply_block

__all__ = ["FPN", "PyramidHost", "UNet"]


class PyramidHost(PreActivationModule):
    """A CIFAR ResNet, a way back up to the size of the images, and a class for each pixel.

        z_3 = c_3,  z_i = refine_i(fuse_i(up_i(z_(i+1)), c_i))
        head: dense(act(norm(3x3 convolution of act(norm(z_1)))))

    c_1, c_2, c_3 is the backbone's pyramid, of the size of the images, 1/2 and 1/4; families say
    what brings a deeper map up. The fusion's x is the deeper map and its y the lateral one, as a
    residual block's are the residual branch and the identity. Only the long skips are fused: the
    backbone's short ones add, so that what is compared stands alone. Sizes need not be even: a
    map that was rounded up on the way down is brought to its lateral map's size.

    **Fields:** `num_classes`; `features`, whether the result is (z_1, z_2, z_3), before norm and
    ReLU, instead of logits, and no head; `blocks_per_stage` and `width` of the backbone; `remat`,
    whether gradients compute a block's activations anew instead of keeping them, for less memory,
    or which of them, as in `Fusion`; and those of `PreActivationModule`.

    Source: paper sections 3.3 and 4.1; open-acm `model/segmentation.py`, by the same authors, for
    the way up and the head, whose 3x3 convolution has a quarter of the channels there, and
    dropout. Theirs is a post-activation backbone.
    """

    num_classes: int = 10
    features: bool = False
    blocks_per_stage: int = 3
    width: int = 1
    remat: bool | str = False

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch height width classes"] | tuple[Array, ...]:
        """Logits of each class at each pixel; or with `features` maps of size 1, 1/2 and 1/4.

        Raises:
            TypeError: `images` are not floating point.
            ValueError: `images` do not have four axes; or see `BatchNorm` for `train`.
        """
        check_images(self, images)
        backbone = CIFARResNet(
            features=True,
            blocks_per_stage=self.blocks_per_stage,
            width=self.width,
            remat=self.remat,
            norm=self.norm,
            name="backbone",
            fusion="add",
            **self.weights(),
        )
        maps = list(backbone(images, train))
        for level in reversed(range(1, len(maps))):
            deeper, lateral = maps[level], maps[level - 1]
            active = self.activate(f"norm{level + 1}", deeper, train)
            fuse = self.make_fuse(f"fuse{level}")
            fused = fuse(self.go_up(level, active, lateral), lateral, train)
            maps[level - 1] = self.refine(level, fused, train)
        if self.features:
            return tuple(maps)
        x = self.activate("norm1", maps[0], train)
        head_conv = ConvNorm(
            x.shape[-1], activation=nn.relu, norm=self.norm, name="head_conv", **self.weights()
        )
        return self.make_head(self.num_classes)(head_conv(x, train))

    def go_up(self, level: int, x: Array, lateral: Array) -> Array:
        """`x` in the shape of the map of that level."""
        raise NotImplementedError

    def refine(self, level: int, x: Array, train: bool) -> Array:
        """What follows the fusion of that level, of one shape."""
        raise NotImplementedError


class FPN(PyramidHost):
    """Feature pyramid network: up by projection and bilinear resize, nothing after the fusion.

        z_i = fuse_i(Align_i(act(norm(z_(i+1))), c_i), c_i)

    **Fields:** those of `PyramidHost`.

    Source: as of `PyramidHost` (ASKCResNetFPN); Lin et al., 2017. Widths stay those of the
    backbone, as in open-acm, where Lin et al. bring all to 256.
    """

    def go_up(self, level: int, x: Array, lateral: Array) -> Array:
        """Projected to the lateral map's channels and resized to its size."""
        return Align(name=f"up{level}", **self.weights())(x, lateral)

    def refine(self, level: int, x: Array, train: bool) -> Array:
        """`x` as it is."""
        return x


class UNet(PyramidHost):
    """U-Net: up by transposed convolutions, and residual blocks after the fusion.

        z_i = blocks_i(fuse_i(crop(4x4 transposed convolution of act(norm(z_(i+1)))), c_i))

    The convolution doubles the size, and what exceeds an odd lateral map is cropped, at the bottom
    and on the right. There are as many blocks as in a stage of the backbone, and they add.

    **Fields:** those of `PyramidHost`.

    Source: as of `PyramidHost` (ASKCResUNet); Ronneberger et al., 2015, where maps are
    concatenated instead of fused, and cropped as they are not padded.
    """

    def go_up(self, level: int, x: Array, lateral: Array) -> Array:
        """Twice the size, cropped to the lateral map's."""
        double = nn.ConvTranspose(
            lateral.shape[-1],
            (4, 4),
            strides=(2, 2),
            padding="SAME",
            transpose_kernel=True,  # a kernel of (out, in), as PyTorch's and MXNet's
            use_bias=False,
            name=f"up{level}",
            **self.weights(),
        )
        return double(x)[:, : lateral.shape[1], : lateral.shape[2]]

    def refine(self, level: int, x: Array, train: bool) -> Array:
        """Residual blocks, their skips added."""
        for index in range(self.blocks_per_stage):
            block = ResNetBlock(
                channels=x.shape[-1],
                fusion="add",
                norm=self.norm,
                name=f"up{level}_block{index}",
                **self.weights(),
            )
            x = apply_block(block, x, train, self.remat)
        return x
