"""ResNet, ResNeXt and Wide ResNet as in torchvision, with fused skip connections."""

from jaxtyping import Array

from aff_jax.hosts.post_activation import PostActivationHost
from aff_jax.nn.pooling import max_pool

__all__ = ["ResNet"]


class ResNet(PostActivationHost):
    """ResNet, ResNeXt and Wide ResNet as in torchvision.

    The stem is::

        max_pool(relu(norm(conv7x7(images))))

    The convolution and the pool have stride 2.

    The names in `aff_jax.hosts.registry` set the depth, the groups and their width. The other
    fields are inherited from `PostActivationHost` and `Host`. Parameters are initialized as in
    PyTorch: normal with variance 2 / fan_out in convolutions, uniform in the dense layer.

    Attributes:
        small_input: Use a 3x3 convolution of stride 1 in the stem. The max pool stays.

    References:
        open-aff `aff_pytorch/aff_net/aff_resnet.py`, after torchvision `models/resnet.py`. He et
        al., Deep Residual Learning for Image Recognition, 2015. Xie et al., Aggregated Residual
        Transformations for Deep Neural Networks, 2016. Zagoruyko and Komodakis, Wide Residual
        Networks, 2016.
    """

    small_input: bool = False

    def apply_stem(self, images: Array, train: bool) -> Array:
        """Apply the stem; see `Host.apply_stem`.

        The output has `base_channels` channels. Height and width are divided by 4, or by 2 with
        `small_input`, and rounded up.
        """
        kernel_size, strides = (3, 1) if self.small_input else (7, 2)
        stem = self.conv_norm_factory(
            self.base_channels, kernel_size=kernel_size, strides=strides, name="stem"
        )
        return max_pool(stem(images, train))
