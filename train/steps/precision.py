"""Half-precision training: the dtypes, and dynamic loss scaling for float16."""

import jax
import jax.numpy as jnp
from flax.training.dynamic_scale import DynamicScale
from jaxtyping import Array, Bool, PyTree

__all__ = [
    "DTYPES",
    "GROWTH_INTERVAL",
    "INITIAL_SCALE",
    "make_loss_scale",
    "unscale",
    "update_loss_scale",
]

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float16": jnp.float16}
"""Dtypes of computation. Parameters, statistics, logits and the loss are float32 in any case."""

INITIAL_SCALE = 2.0**16
"""Loss scale of the first step."""

GROWTH_INTERVAL = 2000
"""Number of finite steps in a row after which the loss scale is doubled."""


def make_loss_scale() -> DynamicScale:
    """Return the loss scale of the first step.

    The smallest positive float16 is 6e-8, and many gradients are smaller. The loss is multiplied by
    the scale to keep its gradients within the range of float16::

        gradients = grad(scale * loss) / scale
        scale <- scale / 2     after a step that was skipped: its loss or gradients are not finite
        scale <- scale * 2     after 2000 finite steps in a row

    The initial scale of 65536 is often too large. It is halved in the first steps until the
    gradients are finite. A power of two adds no rounding.

    Returns:
        The loss scale, with a float32 scalar `scale`.

    References:
        Micikevicius et al., Mixed Precision Training, 2018, sections 3.2 and 4. The numbers are the
        defaults of PyTorch's `torch.amp.GradScaler`.
    """
    # DynamicScale grows in the step after `growth_interval` finite ones, PyTorch in the last.
    return DynamicScale(
        growth_interval=GROWTH_INTERVAL - 1,
        fin_steps=jnp.int32(0),
        scale=jnp.float32(INITIAL_SCALE),
    )


def unscale(loss_scale: DynamicScale, gradients: PyTree) -> PyTree:
    """Divide the gradients of a scaled loss by the scale.

    Args:
        loss_scale: The loss scale with which the loss was multiplied.
        gradients: Gradients of the scaled loss, a pytree of arrays.

    Returns:
        Gradients of the loss, with the same shapes and dtypes.
    """
    return jax.tree.map(lambda gradient: gradient / loss_scale.scale, gradients)


def update_loss_scale(loss_scale: DynamicScale, finite: Bool[Array, ""]) -> DynamicScale:
    """Return the loss scale of the next step.

    Args:
        loss_scale: The loss scale of this step.
        finite: Whether the loss and all gradients of this step are finite.

    Returns:
        The loss scale with its scale halved after a step that is not finite, doubled after
        `GROWTH_INTERVAL` finite steps in a row, and unchanged otherwise.
    """
    # DynamicScale updates itself in `value_and_grad` only, once for each gradient. A step has a
    # gradient for each microbatch and device, so the update uses a stand-in: 0 or NaN.
    gradient = jnp.where(finite, 0.0, jnp.nan)
    return loss_scale.value_and_grad(lambda x: gradient * x)(0.0).dynamic_scale
