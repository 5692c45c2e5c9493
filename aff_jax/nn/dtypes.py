"""Dtypes of the layers that need more precision than the rest."""

import jax.numpy as jnp
from flax.typing import Dtype

__all__ = ["logits_dtype"]


def logits_dtype(dtype: Dtype | None) -> Dtype | None:
    """The dtype of the layer that gives logits: `dtype`, and at least float32; None stays None.

    Logits in bfloat16, of eight bits, are often equal, and which is largest is then left to chance.
    """
    return None if dtype is None else jnp.promote_types(dtype, jnp.float32)
