"""InceptionNet for CIFAR: fusion within a layer, of what two sizes of kernel see."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from aff_jax.hosts.cifar import PreActivationBlock, PreActivationHost, PreActivationModule

__all__ = ["InceptionBlock", "InceptionLayer", "InceptionNet"]


class InceptionLayer(PreActivationModule):
    """A 3x3 and a 5x5 convolution of one map, fused.

        fuse(norm3x3(conv3x3(x)), norm5x5(conv5x5(x)))

    Each branch has its own norm, so that they meet at one scale, and no activation: a block's next
    norm and ReLU follow. The 3x3 branch is the fusion's x and the 5x5 branch its y.

    **Fields:** those of `PreActivationModule`; `channels` out; `strides`; `dilated`, whether the
    5x5 convolution has the 3x3 weights of a kernel with dilation 2, which spans as much.

    Source: paper section 3.3, where X is the output of a 3x3 kernel and Y that of a 5x5 kernel;
    open-aff `model/atac/convolution.py` for the norms, and for the dilation, as in SKNet.
    """

    channels: int = 16
    strides: int = 1
    dilated: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width in_channels"], train: bool = False
    ) -> Float[Array, "batch out_height out_width channels"]:
        """Apply to `x`; height and width are divided by `strides` and rounded up."""
        x3 = self.branch("3x3", x, 3, 1, train)
        x5 = self.branch("5x5", x, 3 if self.dilated else 5, 2 if self.dilated else 1, train)
        return self.make_fuse("fuse")(x3, x5, train)

    def branch(self, name: str, x: Array, kernel: int, dilation: int, train: bool) -> Array:
        """One kernel and its norm, whose span is kept at the centre by as much padding."""
        convolve = nn.Conv(
            self.channels,
            (kernel, kernel),
            strides=self.strides,
            padding=kernel // 2 * dilation,
            kernel_dilation=dilation,
            use_bias=False,
            name=f"conv{name}",
            **self.weights(),
        )
        return self.norm(name=f"norm{name}", **self.dtypes())(convolve(x), train=train)


class InceptionBlock(PreActivationBlock):
    """A pre-activation block of two Inception layers, whose skip is added.

        layer2(act(norm2(layer1(act(norm1(x)))))) + skip(x)

    **Fields:** those of `PreActivationBlock`; `dilated` as in `InceptionLayer`.

    Source: open-aff `model/atac/classification.py`, ResBlockV2DyReF.
    """

    dilated: bool = False

    def convolve(self, name: str, x: Array, strides: int, train: bool) -> Array:
        """An Inception layer."""
        layer = InceptionLayer(
            channels=self.channels,
            strides=strides,
            dilated=self.dilated,
            name=name,
            fusion=self.fusion,
            fusion_fields=self.fusion_fields,
            reduction=self.reduction,
            norm=self.norm,
            **self.weights(),
        )
        return layer(x, train)

    def join(self, residual: Array, identity: Array, train: bool) -> Array:
        """Their sum: what is compared is the fusion within the layers."""
        return jnp.add(residual, identity)


class InceptionNet(PreActivationHost):
    """InceptionNet of depth 6b + 2 for small images: `CIFARResNet` with Inception layers.

        layer: fuse(norm(3x3 convolution), norm(5x5 convolution))
        block: layer(act(norm(layer(act(norm(x)))))) + skip(x)

    The two branches count as one layer of the depth. The authors have published neither weights
    nor counts of this network; its shape follows their unreleased experiments, found in open-aff,
    except for the stem, which is a single 3x3 convolution as in the ResNet: there is nothing yet
    to fuse in an image's three channels.

    **Fields:** those of `PreActivationHost`; `dilated`, whether the 5x5 kernels are 3x3 ones with
    dilation 2, as in open-aff.

    Source: paper sections 3.3 and 4.1; open-aff `model/atac/classification.py` (ResNet20V2DyReF)
    and `model/atac/convolution.py`.
    """

    dilated: bool = False

    def make_block(self, **fields: Any) -> InceptionBlock:
        """A block of Inception layers."""
        return InceptionBlock(dilated=self.dilated, **fields)
