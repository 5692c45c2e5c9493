"""What attentional fusion is compared with."""

import flax.linen as nn
from jaxtyping import Array, Float

from aff_jax.fusion.attentional import check_pair

__all__ = ["Add"]


class Add(nn.Module):
    """Addition, as in ResNet and FPN.

        Add(x, y) = x + y

    Source: paper table 1, "Addition".
    """

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *spatial channels"],
        y: Float[Array, "batch *spatial channels"],
        train: bool = False,
    ) -> Float[Array, "batch *spatial channels"]:
        """Add `x` and `y`; `train` changes nothing.

        Raises:
            TypeError: an input is not floating point.
            ValueError: shapes differ, or have fewer than two axes.
        """
        check_pair(self, x, y)
        return x + y
