"""What every fusion is: one map out of two of one shape."""

import flax.linen as nn
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype
from jaxtyping import Array, Float

from aff_jax.nn.input_checks import check_input
from aff_jax.nn.rematerialization import rematerialize

__all__ = ["Fusion"]


class Fusion(nn.Module, kw_only=True):
    """A fusion of two arrays of one shape into one.

    **Fields:** `dtype` of the computation (None: from inputs and parameters); `remat`, whether
    gradients compute what lies inside the fusion anew from x and y, for less memory; with
    "dots_saveable" but for what the products gave (`jax.checkpoint_policies`).
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

        Raises:
            TypeError: an input is not floating point.
            ValueError: shapes differ, an input has fewer than two axes, or see `BatchNorm` for
                `train`.
        """
        check_input(self, x=x, y=y)
        if x.shape != y.shape:
            raise ValueError(
                f"{type(self).__name__}: expected x and y of one shape, got {x.shape} and "
                f"{y.shape}. Probably one comes from another stage of the network: bring it to the "
                f"spatial size and the channels of the other first, as in "
                f"`fuse(aff_jax.Align()(x, y), y)`."
            )
        x, y = promote_dtype(x, y, dtype=self.dtype)

        def fuse(module: Fusion, x: Array, y: Array) -> Array:
            return module.fuse(x, y, train)

        fused: Array = rematerialize(fuse, self.remat)(self, x, y)
        return fused

    def fuse(self, x: Array, y: Array, train: bool) -> Array:
        """The formula, of two arrays of one shape and dtype."""
        raise NotImplementedError
