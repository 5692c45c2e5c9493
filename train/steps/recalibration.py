"""Precise batch norm: compute running statistics for the evaluated weights."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from flax import traverse_util
from jax import lax
from jaxtyping import Array, Float, Int

from train.data.batch import Batch
from train.steps.state import TrainState

__all__ = ["Moments", "RecalibrationStep", "make_recalibration_step", "zero_moments"]

_Moment = dict[tuple[str, ...], Float[Array, " channels"]]
"""One moment of every batch norm, by path."""


class Moments(flax.struct.PyTreeNode):
    """Mean and variance of the input of every batch norm over batches of the same size.

    Attributes:
        mean: Means by path of the batch norm.
        var: Variances by path of the batch norm.
        batches: Number of batches, int32 scalar.
    """

    mean: _Moment
    var: _Moment
    batches: Int[Array, ""]

    @property
    def batch_stats(self) -> dict[str, Any]:
        """Return the moments as the collection `batch_stats`."""
        flat = {(*path, "mean"): mean for path, mean in self.mean.items()}
        flat |= {(*path, "var"): var for path, var in self.var.items()}
        return traverse_util.unflatten_dict(flat)


RecalibrationStep = Callable[[tuple[TrainState, Moments], Batch], Moments]
"""A function of `(state, moments)` and a batch that returns the new moments.

The state and the moments are one argument, because `Parallel.compile` maps functions of a state and
a batch.
"""


def zero_moments(batch_stats: Any) -> Moments:
    """Return moments over no batches.

    Args:
        batch_stats: Running statistics of the network, for their names, shapes and dtypes.

    Returns:
        Moments that are all zero.
    """
    zeros = jax.tree.map(jnp.zeros_like, batch_stats)
    return Moments(_moment(zeros, "mean"), _moment(zeros, "var"), jnp.int32(0))


def make_recalibration_step(
    model: nn.Module,
    augment: Callable[[Array, Array, Array, Array], tuple[Array, Array]],
    axis_name: str,
) -> RecalibrationStep:
    """Make a step that adds one batch to the moments.

    The moments are those over all values of all batches::

        mean = mean of the batches' means
        var  = mean of the batches' variances + variance of the batches' means

    The network sees the batches as in training: augmented as in the next steps, and normalized with
    their own statistics.

    Args:
        model: The network, called as `model(images, train=True)` with `state.eval_variables`.
        augment: Called as in `make_train_step`.
        axis_name: Name of the mapped axis, over which the moments are averaged.

    Returns:
        A function of `(state, moments)` and a batch that returns the new moments.

    Raises:
        ValueError: If the network has no field `norm`.

    References:
        Wu and Johnson, Rethinking "Batch" in BatchNorm, 2021, section 3, precise batch norm. Chan,
        Golub and LeVeque, 1983, for a running variance without cancellation.
    """
    if not hasattr(model, "norm"):
        raise ValueError(
            f"expected a network with a field `norm` to recalibrate, got {type(model).__name__}. "
            f"Leave --config.recalibration_batches at 0."
        )
    # With momentum 0, the running statistics after a batch are the statistics of that batch.
    batch_model = model.clone(norm=partial(model.norm, momentum=0.0, unbiased_variance=False))

    def step(state_and_moments: tuple[TrainState, Moments], batch: Batch) -> Moments:
        state, moments = state_and_moments
        k = moments.batches
        first_row = lax.axis_index(axis_name) * batch["label"].shape[0]
        images, _ = augment(batch["image"], batch["label"], state.step + k, first_row)
        _, new = batch_model.apply(
            state.eval_variables, images, train=True, mutable=["batch_stats"]
        )

        # The devices' blocks have the same size. Unless batch norm is synchronized, each device has
        # its own mean, and the variance of these means is part of the variance.
        local_mean = _moment(new["batch_stats"], "mean")
        mean = lax.pmean(local_mean, axis_name)
        var = lax.pmean(
            jax.tree.map(
                lambda local_var, local_mean, mean: local_var + jnp.square(local_mean - mean),
                _moment(new["batch_stats"], "var"),
                local_mean,
                mean,
            ),
            axis_name,
        )
        return Moments(
            mean=jax.tree.map(lambda old, new: old + (new - old) / (k + 1), moments.mean, mean),
            var=jax.tree.map(
                lambda old, new, old_mean, new_mean: (
                    old + (new - old) / (k + 1) + jnp.square((new_mean - old_mean) / (k + 1)) * k
                ),
                moments.var,
                var,
                moments.mean,
                mean,
            ),
            batches=k + 1,
        )

    return step


def _moment(batch_stats: Any, name: str) -> _Moment:
    """Return the statistics called `name` by path of their batch norm."""
    flat = traverse_util.flatten_dict(batch_stats)
    return {path[:-1]: leaf for path, leaf in flat.items() if path[-1] == name}
