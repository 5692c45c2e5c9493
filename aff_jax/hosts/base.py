"""The base class of all host networks: shared fields, the loop over stages, and the head."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.typing import Dtype, Initializer
from jaxtyping import Array, Float

from aff_jax.fusion.baselines import Add
from aff_jax.fusion.registry import FusionSpec, make_fusion
from aff_jax.nn.batch_norm import BatchNorm
from aff_jax.nn.checked_module import CheckedModule
from aff_jax.nn.convolution import ConvNorm, make_conv
from aff_jax.nn.input_checks import check_images, check_train
from aff_jax.nn.norm import NormFactory, make_norm
from aff_jax.nn.rematerialization import rematerialize

__all__ = [
    "FIRST_LAYERS",
    "HEAD",
    "Host",
    "ModuleFactory",
    "apply_block",
    "is_in_first_layer",
    "logits_dtype",
]

FIRST_LAYERS = ("deep_stem1", "stem1", "stem", "input_norm")
"""Names of the layers that see the channels of the images, in any host."""

HEAD = "head"
"""Name of the dense layer that computes the logits of every host."""

ModuleFactory = Callable[..., nn.Module]
"""A function that makes a module: a class, or a `functools.partial` of it with some fields."""


class Host(CheckedModule):
    """Base class of the host networks.

    A host applies a stem, stages of blocks and a head. The head is a dense layer that reads the
    mean of the last feature map. Each stage after the first starts with stride 2 and has twice the
    channels of the previous one.

    A subclass defines `apply_stem`, `make_block` and `first_channels`, or `feature_maps` instead of
    these three. It may also override `head_input`. A submodule must not have the name of a field or
    a method, because `flax.nnx.bridge.ToNNX` stores submodules as attributes of the same object.

    Attributes:
        num_classes: Number of classes.
        features_only: Return the feature maps instead of logits. The host then has no head.
        blocks_per_stage: Number of blocks of each stage, one integer for each stage.
        fusion_start: First stage, counted from 1, that has fusions. Earlier stages add.
        fusion: Name of a registered fusion, or a function that makes a fusion module.
        fusion_fields: Fields of the fusion.
        reduction: Reduction r of the fusions.
        norm: Function that makes a normalization layer.
        kernel_init: Initializer of the kernels of convolutions and fusions.
        head_init: Initializer of the kernel of the head. None uses `kernel_init`.
        remat: Recompute the activations of each block in the backward pass to save memory. True
            recomputes all of them. "dots_saveable" and "dots_with_no_batch_dims_saveable" keep
            the results of matrix products, as in `Fusion`.
        dtype: Dtype of the computation. None infers it from the input and the parameters. Logits
            are at least float32.
        param_dtype: Dtype of the parameters.
    """

    num_classes: int = 1000
    features_only: bool = False
    blocks_per_stage: Sequence[int] = (3, 3, 3)
    fusion_start: int = 1
    fusion: FusionSpec = "aff"
    fusion_fields: Mapping[str, Any] = nn.FrozenDict()
    reduction: float = 4
    norm: NormFactory = BatchNorm
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    head_init: Initializer | None = None
    remat: bool | str = False
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch *positions classes"] | tuple[Array, ...]:
        """Compute logits, or feature maps if `features_only` is set.

        Args:
            images: Floating-point images `(batch, height, width, channels)` of any height and
                width, normalized as in training.
            train: Normalize with the statistics of the batch, and update the running ones.

        Returns:
            Logits of shape `(batch, classes)`, or `(batch, height, width, classes)` from a host
            for segmentation, at least float32. With `features_only`, a tuple of one feature map
            `(batch, height, width, channels)` for each stage, from shallow to deep. Each map has
            half the height and width of the previous map, rounded up.

        Raises:
            TypeError: If `images` are not floating point, or `train` is not True or False.
            ValueError: If `images` do not have four axes or a field has an unknown value, or, with
                `train`, for the reasons that `BatchNorm` lists.
        """
        check_images(self, images)
        check_train(self, train)
        maps = self.feature_maps(images, train)
        if self.features_only:
            return maps
        if self.num_classes < 1:
            raise ValueError(
                f"{type(self).__name__}: expected num_classes of at least 1, got "
                f"{self.num_classes}. For feature maps without a head, use features_only=True."
            )
        head = nn.Dense(
            self.num_classes,
            kernel_init=self.kernel_init if self.head_init is None else self.head_init,
            dtype=logits_dtype(self.dtype),
            param_dtype=self.param_dtype,
            name=HEAD,
        )
        return head(self.head_input(maps, train))

    # Hooks, which families override.

    @property
    def first_channels(self) -> int:
        """Return the field `channels` of the blocks of the first stage."""
        raise NotImplementedError

    def apply_stem(self, images: Array, train: bool) -> Array:
        """Apply the layers before the first stage.

        Args:
            images: Floating-point array `(batch, height, width, channels)`.
            train: Normalize with the statistics of the batch, and update the running ones.

        Returns:
            Array `(batch, out_height, out_width, stem_channels)`.
        """
        raise NotImplementedError

    def make_block(
        self, *, channels: int, strides: int, fusion_factory: ModuleFactory, name: str
    ) -> nn.Module:
        """Make a block.

        Args:
            channels: Number of channels, which is `first_channels` in the first stage and doubles
                with every stage.
            strides: Stride of the block.
            fusion_factory: Function that makes the fusion of the block.
            name: Name of the submodule.

        Returns:
            Module that is called as `(x, train)`.
        """
        raise NotImplementedError

    def feature_maps(self, images: Array, train: bool) -> tuple[Array, ...]:
        """Compute the last feature map of each stage, before the layers of `head_input`.

        Args:
            images: Floating-point array `(batch, height, width, channels)`.
            train: Normalize with the statistics of the batch, and update the running ones.

        Returns:
            One array `(batch, height, width, channels)` for each stage, from shallow to deep.
        """
        x = self.apply_stem(images, train)
        maps = []
        for stage, blocks in enumerate(self.blocks_per_stage, start=1):
            for index in range(blocks):
                block = self.make_block(
                    channels=self.first_channels * 2 ** (stage - 1),
                    strides=2 if stage > 1 and index == 0 else 1,
                    fusion_factory=self.fusion_factory(stage),
                    name=f"stage{stage}_block{index}",
                )
                x = apply_block(block, x, train, self.remat)
            maps.append(x)
        return tuple(maps)

    def head_input(self, maps: tuple[Array, ...], train: bool) -> Array:
        """Compute the input of the dense layer: the mean of the last feature map over positions.

        Args:
            maps: Feature maps from `feature_maps`.
            train: Normalize with the statistics of the batch, and update the running ones.

        Returns:
            Array `(batch, channels)`, or `(batch, height, width, channels)` for segmentation.
        """
        return jnp.mean(maps[-1], axis=(1, 2))

    # Functions that make layers with the fields of this host. Blocks take them as fields.

    @property
    def layer_fields(self) -> dict[str, Any]:
        """Return the fields of every layer with a kernel: its initializer and its dtypes."""
        return {"kernel_init": self.kernel_init, **self._dtypes}

    @property
    def conv_factory(self) -> Callable[..., nn.Conv]:
        """Return `make_conv` with the initializer and the dtypes of this host."""
        return partial(make_conv, **self.layer_fields)

    @property
    def norm_factory(self) -> NormFactory:
        """Return `make_norm` with the norm and the dtypes of this host."""
        return partial(make_norm, self.norm, **self._dtypes)

    @property
    def conv_norm_factory(self) -> Callable[..., ConvNorm]:
        """Return `ConvNorm` with ReLU, and with the norm and `layer_fields` of this host."""
        return partial(ConvNorm, activation=nn.relu, norm=self.norm, **self.layer_fields)

    def fusion_factory(self, stage: int) -> ModuleFactory:
        """Return the function that makes the fusions of a stage.

        Args:
            stage: Number of the stage, from 1.

        Returns:
            Function of `name` that makes the fusion, or `Add` before `fusion_start`.
        """
        if stage < self.fusion_start:
            return partial(Add, dtype=self.dtype)
        return partial(
            make_fusion,
            self.fusion,
            self.fusion_fields,
            reduction=self.reduction,
            norm=self.norm,
            **self.layer_fields,
        )

    @property
    def _dtypes(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "param_dtype": self.param_dtype}


def is_in_first_layer(path: Collection[str]) -> bool:
    """Return whether a variable belongs to a layer that sees the channels of the images.

    Args:
        path: Path of the variable.

    Returns:
        True if one of `FIRST_LAYERS` is in the path.
    """
    return any(layer in path for layer in FIRST_LAYERS)


def apply_block(block: nn.Module, x: Array, train: bool, remat: bool | str) -> Array:
    """Apply a block, and recompute its activations in the backward pass if `remat` is set.

    Args:
        block: Module that is called as `(x, train)`.
        x: Array `(batch, height, width, in_channels)`.
        train: Normalize with the statistics of the batch, and update the running ones.
        remat: Field `remat` of the host.

    Returns:
        Array `(batch, out_height, out_width, out_channels)`.

    Raises:
        ValueError: If `remat` names an unknown policy.
    """

    def apply(block: nn.Module, x: Array) -> Any:
        return block(x, train)

    result: Array = rematerialize(apply, remat)(block, x)
    return result


def logits_dtype(dtype: Dtype | None) -> Dtype | None:
    """Return the dtype of the layer that computes logits, which is at least float32.

    bfloat16 has eight significant bits. Logits in bfloat16 are often equal, so that the predicted
    class would be arbitrary.

    Args:
        dtype: Field `dtype` of the host.

    Returns:
        The wider of `dtype` and float32, or None if `dtype` is None.
    """
    return None if dtype is None else jnp.promote_types(dtype, jnp.float32)
