"""Compute in half precision: the dtypes, and the scale of the loss that float16 needs."""

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

__all__ = ["DTYPES", "LossScale", "create_loss_scale"]

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}
"""What a network may compute in; parameters, statistics, logits and the loss are float32."""

INITIAL_SCALE = 2.0**16
GROWTH_INTERVAL = 2000
"""PyTorch's, `torch.amp.GradScaler`, as are growth by 2 and backoff by 1/2."""


class LossScale(flax.struct.PyTreeNode):
    """A factor of the loss that keeps the gradients within the range of float16.

        gradients = grad(scale * loss) / scale
        scale <- scale / 2     where a gradient is not finite, and that update is skipped
        scale <- scale * 2     after 2000 steps in a row without one

    The smallest float16 is 6e-8, and many gradients are smaller. The scale starts at 65536, more
    often than not too high, and halves within the first steps to what the network bears. A power
    of two, it rounds nothing.

    **Fields:** `scale`, float32 scalar; `good_steps`, int32 scalar, those since it last changed.

    Source: Micikevicius et al., Mixed Precision Training, 2018, sections 3.2 and 4; the figures are
    those of PyTorch's `torch.amp.GradScaler`.
    """

    scale: Float[Array, ""]
    good_steps: Int[Array, ""]

    def scaled(self, loss: Float[Array, ""]) -> Float[Array, ""]:
        """What is differentiated."""
        return loss * self.scale

    def unscaled(self, gradients: PyTree) -> PyTree:
        """The loss's own gradients."""
        return jax.tree.map(lambda gradient: gradient / self.scale, gradients)

    def after(self, finite: Bool[Array, ""]) -> "LossScale":
        """The next step's, by whether all gradients of this one were finite."""
        grows = self.good_steps + 1 >= GROWTH_INTERVAL
        grown = jnp.where(grows, 2 * self.scale, self.scale)
        return LossScale(
            scale=jnp.where(finite, grown, self.scale / 2),
            good_steps=jnp.where(finite & ~grows, self.good_steps + 1, 0),
        )


def create_loss_scale() -> LossScale:
    """The scale before the first step."""
    return LossScale(scale=jnp.float32(INITIAL_SCALE), good_steps=jnp.int32(0))
