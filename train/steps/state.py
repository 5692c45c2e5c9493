"""The state that a training step takes and gives back."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Int

from train.steps.precision import LossScale, create_loss_scale

__all__ = [
    "TrainState",
    "all_finite",
    "count_parameters",
    "create_state",
    "moving_average",
    "with_variables",
]


class TrainState(struct.PyTreeNode):
    """What changes from step to step: nothing else does, and nothing is hidden.

    **Fields:** `step`, steps taken, int32 scalar; `params` and `batch_stats`, the network's
    variables; `opt_state`, the optimizer's; `skipped`, how many of the steps changed nothing,
    since their gradient was not finite, and `skipped_in_row`, how many of these came last, int32
    scalars; `ema`, moving averages of `params` and `batch_stats`, or None; `loss_scale` with
    float16, or None.
    """

    step: Int[Array, ""]
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    skipped: Int[Array, ""] | np.int32 = np.int32(0)
    skipped_in_row: Int[Array, ""] | np.int32 = np.int32(0)
    ema: dict[str, Any] | None = None
    loss_scale: LossScale | None = None

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes in training."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def eval_variables(self) -> dict[str, Any]:
        """What `model.apply` takes in evaluation: the moving averages where there are any."""
        return self.variables if self.ema is None else self.ema

    @property
    def updates(self) -> Int[Array, ""]:
        """Steps that were not skipped, int32 scalar: what schedules count."""
        return self.step - self.skipped


def create_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    seed: int,
    image_shape: tuple[int, ...],
    *,
    ema: bool = False,
    loss_scale: bool = False,
) -> TrainState:
    """The state before the first step, with moving averages and a loss scale where asked for.

    Shapes: `image_shape` is (height, width, channels).
    """

    def init(key: Array) -> TrainState:
        variables = {"batch_stats": {}, **model.init(key, jnp.zeros((1, *image_shape)))}
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=variables["params"],
            batch_stats=variables["batch_stats"],
            opt_state=optimizer.init(variables["params"]),
            skipped=jnp.zeros((), jnp.int32),
            skipped_in_row=jnp.zeros((), jnp.int32),
            ema=jax.tree.map(jnp.copy, variables) if ema else None,
            loss_scale=create_loss_scale() if loss_scale else None,
        )

    # It runs once: on a CPU, optimising the many random generators takes three times as long as
    # all the rest.
    compiler_options = {"xla_backend_optimization_level": 0}
    return jax.jit(init, compiler_options=compiler_options)(jax.random.key(seed))


def with_variables(state: TrainState, variables: Mapping[str, Any]) -> TrainState:
    """The state before the first step with other variables, where moving averages start as well."""
    # Copies: buffers that are donated must not be shared.
    params, batch_stats = (jax.tree.map(np.array, variables[x]) for x in ("params", "batch_stats"))
    ema = None
    if state.ema is not None:
        ema = jax.tree.map(np.array, {"params": params, "batch_stats": batch_stats})
    return state.replace(params=params, batch_stats=batch_stats, ema=ema)


def moving_average(state: TrainState, decay: float) -> dict[str, Any] | None:
    """The averages one update on, or None where the state has none.

        ema <- d * ema + (1 - d) * variables,   d = min(decay, (1 + t) / (10 + t))

    with t the updates before, so that the first steps, far from the last, are soon forgotten. The
    running statistics of batch norm are averaged as the parameters are.

    Source: TensorFlow, `tf.train.ExponentialMovingAverage` with `num_updates`.
    """
    if state.ema is None:
        return None
    t = state.updates
    d = jnp.minimum(decay, (1 + t) / (10 + t))
    return jax.tree.map(
        lambda old, new: (d * old + (1 - d) * new).astype(old.dtype), state.ema, state.variables
    )


def count_parameters(params: Any) -> int:
    """Number of trainable values."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@jax.jit
def all_finite(state: TrainState) -> Array:
    """Whether no value of the state is infinite or not a number; a boolean scalar."""
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
