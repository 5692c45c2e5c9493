"""The logistic function, spelled out for XLA's CPU backend."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

__all__ = ["explicit_sigmoid"]


@jax.custom_jvp
def explicit_sigmoid(logits: Float[Array, "..."]) -> Float[Array, "..."]:
    """Compute `1 / (1 + exp(-logits))` with an explicit exponential.

    XLA's CPU backend runs its own logistic function, and all that is fused with it, in one thread.
    """
    return 1 / (1 + jnp.exp(-logits))


# Derived from the expression above, it would be infinity over infinity at large negative logits.
explicit_sigmoid.defjvps(lambda tangent, y, _: tangent * y * (1 - y))
