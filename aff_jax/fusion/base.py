"""The base class of fusions: checks, dtypes and rematerialization."""

import flax.linen as nn
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype
from jaxtyping import Array, Float

from aff_jax.nn.checked_module import CheckedModule
from aff_jax.nn.input_checks import check_input, check_train
from aff_jax.nn.rematerialization import rematerialize

__all__ = ["Fusion"]


class Fusion(CheckedModule, kw_only=True):
    """Base class of a fusion of two arrays of the same shape.

    A subclass defines its formula in the method `fuse`.

    Attributes:
        dtype: Dtype of the computation. None infers it from the inputs and the parameters.
        remat: Recompute the fusion from x and y in the backward pass, which saves memory. True
            recomputes everything; "dots_saveable" and "dots_with_no_batch_dims_saveable" keep
            matrix products, as the policies of that name in `jax.checkpoint_policies` do.
    """

    dtype: Dtype | None = None
    remat: bool | str = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *spatial channels"],
        y: Float[Array, "batch *spatial channels"],
        train: bool = False,
    ) -> Float[Array, "batch *spatial channels"]:
        """Fuse `x` and `y`.

        Args:
            x: Floating-point array `(batch, *spatial, channels)`. In a residual block this is the
                residual branch. With a long skip connection it is the deeper map.
            y: Array of the shape of `x`: the identity, or the shallower map.
            train: Normalize with the statistics of the batch, and update the running ones.

        Returns:
            Array of the shape of `x`.

        Raises:
            TypeError: If an input is not floating point, or `train` is not True or False.
            ValueError: If the shapes differ or an input has fewer than two axes, or, with `train`,
                for the reasons that `BatchNorm` lists.
        """
        check_input(self, x=x, y=y)
        check_train(self, train)
        if x.shape != y.shape:
            raise ValueError(
                f"{type(self).__name__}: expected x and y of the same shape, got {x.shape} and "
                f"{y.shape}. Probably one comes from another stage of the network. Bring it to "
                f"the spatial size and the channels of the other first, as in "
                f"`fuse(aff_jax.Align()(x, y), y)`."
            )
        x, y = promote_dtype(x, y, dtype=self.dtype)

        if not self.remat:
            return self.fuse(x, y, train)

        def call_fuse(module: Fusion, x: Array, y: Array) -> Array:
            return module.fuse(x, y, train)

        fused: Array = rematerialize(call_fuse, self.remat)(self, x, y)
        return fused

    def fuse(
        self,
        x: Float[Array, "batch *spatial channels"],
        y: Float[Array, "batch *spatial channels"],
        train: bool,
    ) -> Float[Array, "batch *spatial channels"]:
        """Compute the formula of the fusion.

        Args:
            x: Array `(batch, *spatial, channels)`.
            y: Array of the shape and dtype of `x`.
            train: Normalize with the statistics of the batch, and update the running ones.

        Returns:
            Array of the shape and dtype of `x`.

        Raises:
            ValueError: If a field of the fusion has an unknown value.
        """
        raise NotImplementedError
