"""The training state: everything that a training step changes."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from flax.training.dynamic_scale import DynamicScale
from jaxtyping import Array, Int

from train.steps.precision import make_loss_scale

__all__ = [
    "Metrics",
    "TrainState",
    "all_finite",
    "make_state",
    "moving_average",
    "with_variables",
]

Metrics = dict[str, Array]
"""Metrics of a step by name."""


class TrainState(struct.PyTreeNode):
    """The state of a training run, without the position in the data.

    Attributes:
        step: Number of steps taken, int32 scalar.
        params: Parameters of the network.
        batch_stats: Running statistics of the network.
        opt_state: State of the optimizer.
        skipped: Number of steps that were skipped because their loss or gradients were not finite,
            int32 scalar.
        skipped_in_row: Number of steps in a row up to the last one that were skipped, int32
            scalar.
        ema: Exponential moving averages of `params` and `batch_stats`, or None.
        loss_scale: Loss scale for float16, or None.
    """

    step: Int[Array, ""]
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    skipped: Int[Array, ""] | np.int32 = np.int32(0)
    skipped_in_row: Int[Array, ""] | np.int32 = np.int32(0)
    ema: dict[str, Any] | None = None
    loss_scale: DynamicScale | None = None

    @property
    def variables(self) -> dict[str, Any]:
        """Return the variables of the network for training."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def eval_variables(self) -> dict[str, Any]:
        """Return the variables for evaluation: the moving averages, or `variables` without them."""
        return self.variables if self.ema is None else self.ema

    @property
    def update_count(self) -> Int[Array, ""]:
        """Return the number of steps that were not skipped, int32 scalar. Schedules count these."""
        return self.step - self.skipped


def make_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    seed: int,
    image_shape: tuple[int, ...],
    *,
    ema: bool = False,
    loss_scale: bool = False,
) -> TrainState:
    """Initialize the state before the first step.

    Args:
        model: The network, called as `model(images)`.
        optimizer: The optimizer.
        seed: Seed of the initial parameters.
        image_shape: Shape of an image, `(height, width, channels)`.
        ema: Whether to keep moving averages of the variables.
        loss_scale: Whether to scale the loss, which float16 needs.

    Returns:
        The state, on one device.
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
            loss_scale=make_loss_scale() if loss_scale else None,
        )

    # This runs once. Optimizing its many random generators would take a CPU three times as long as
    # everything else here.
    compiler_options = {"xla_backend_optimization_level": 0}
    return jax.jit(init, compiler_options=compiler_options)(jax.random.key(seed))


def with_variables(state: TrainState, variables: Mapping[str, Any]) -> TrainState:
    """Replace the variables and the moving averages of the state before the first step.

    Args:
        state: The state before the first step.
        variables: Variables of the network, with the collections `params` and `batch_stats`.

    Returns:
        The state with copies of the variables, as NumPy arrays.
    """
    # The step donates its buffers, so parameters and averages must not share any.
    params, batch_stats = (jax.tree.map(np.array, variables[x]) for x in ("params", "batch_stats"))
    ema = None
    if state.ema is not None:
        ema = jax.tree.map(np.array, {"params": params, "batch_stats": batch_stats})
    return state.replace(params=params, batch_stats=batch_stats, ema=ema)


def moving_average(state: TrainState, decay: float) -> dict[str, Any] | None:
    """Compute the moving averages after an update.

    The averages of the parameters and of the running statistics are::

        ema <- d * ema + (1 - d) * variables,   d = min(decay, (1 + t) / (10 + t))

    where t is the number of earlier updates. The smaller decay of the first steps forgets the
    initial parameters soon.

    Args:
        state: The updated state. Its `step` does not count this update yet, and its moving averages
            are from before it.
        decay: Largest decay, in 0 .. 1.

    Returns:
        The moving averages, with the dtypes of the variables; None if the state has none.

    References:
        TensorFlow, `tf.train.ExponentialMovingAverage` with `num_updates`.
    """
    if state.ema is None:
        return None
    t = state.update_count
    d = jnp.minimum(decay, (1 + t) / (10 + t))
    averages = optax.incremental_update(state.variables, state.ema, 1 - d)
    return optax.tree.cast_like(averages, state.ema)


@jax.jit
def all_finite(state: TrainState) -> Array:
    """Return whether all floating-point values of the state are finite.

    Args:
        state: The state, with at least one floating-point array.

    Returns:
        A boolean scalar.
    """
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
