"""The state that a training step takes and gives back."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Int

__all__ = ["TrainState", "all_finite", "count_parameters", "create_state"]


class TrainState(struct.PyTreeNode):
    """What changes from step to step: nothing else does, and nothing is hidden.

    **Fields:** `step`, steps taken, int32 scalar; `params` and `batch_stats`, the network's
    variables; `opt_state`, the optimizer's.
    """

    step: Int[Array, ""]
    params: Any
    batch_stats: Any
    opt_state: optax.OptState

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def create_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    seed: int,
    image_shape: tuple[int, ...],
) -> TrainState:
    """The state before the first step.

    Shapes: `image_shape` is (height, width, channels).
    """

    def init(key: Array) -> TrainState:
        variables = model.init(key, jnp.zeros((1, *image_shape)))
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=variables["params"],
            batch_stats=variables.get("batch_stats", {}),
            opt_state=optimizer.init(variables["params"]),
        )

    # It runs once: on a CPU, optimising the many random generators takes three times as long as
    # all the rest.
    compiler_options = {"xla_backend_optimization_level": 0}
    return jax.jit(init, compiler_options=compiler_options)(jax.random.key(seed))


def count_parameters(params: Any) -> int:
    """Number of trainable values."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@jax.jit
def all_finite(state: TrainState) -> Array:
    """Whether no value of the state is infinite or not a number; a boolean scalar."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
