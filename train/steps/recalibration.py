"""Statistics of batch norm that belong to the weights that are evaluated."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from flax import traverse_util
from jax import lax
from jaxtyping import Array, Float, Int

from train.steps.state import TrainState

__all__ = ["Moments", "RecalibrationStep", "make_recalibration_step", "no_moments"]

Moment = dict[tuple[str, ...], Float[Array, " channels"]]
"""One of the two, by the path of the batch norm."""


class Moments(flax.struct.PyTreeNode):
    """Mean and variance of every batch norm's input over some batches of one size.

    **Fields:** `mean` and `var`; `batches`, how many, int32 scalar.
    """

    mean: Moment
    var: Moment
    batches: Int[Array, ""]

    @property
    def batch_stats(self) -> dict[str, Any]:
        """The same as a network's variables."""
        flat = {(*path, "mean"): mean for path, mean in self.mean.items()}
        flat |= {(*path, "var"): var for path, var in self.var.items()}
        return traverse_util.unflatten_dict(flat)


RecalibrationStep = Callable[[tuple[TrainState, Moments], Mapping[str, Array]], Moments]


def no_moments(batch_stats: Any) -> Moments:
    """Moments over no batch yet."""
    zeros = jax.tree.map(jnp.zeros_like, batch_stats)
    return Moments(_moment(zeros, "mean"), _moment(zeros, "var"), jnp.int32(0))


def make_recalibration_step(
    model: nn.Module,
    augment: Callable[[Array, Array, Array, Array], tuple[Array, Array]],
    axis_name: str,
) -> RecalibrationStep:
    """Moments over one more batch, `(state, moments), batch -> moments`, of `eval_variables`.

        mean = mean of the batches' means
        var  = mean of the batches' variances + variance of the batches' means

    which is the variance over all values at once. The network sees batches as it does in training:
    augmented as in the steps that come next, and normalised with their own statistics.

    Source: Wu and Johnson, Rethinking "Batch" in BatchNorm, 2021, section 3, precise batch norm;
    Chan, Golub and LeVeque, 1983, for a running variance that loses no digits.

    Raises:
        ValueError: the network has no `norm` whose statistics could be read.
    """
    if not hasattr(model, "norm"):
        raise ValueError(
            f"expected a network with a field `norm` to recalibrate, got {type(model).__name__}. "
            f"Leave --config.recalibration_batches at 0."
        )
    # Without momentum, what is kept after a batch is that batch's.
    of_batch = model.clone(norm=partial(model.norm, momentum=0.0, unbiased_variance=False))

    def step(state_and_moments: tuple[TrainState, Moments], batch: Mapping[str, Array]) -> Moments:
        state, moments = state_and_moments
        k = moments.batches
        first_row = lax.axis_index(axis_name) * batch["label"].shape[0]
        images, _ = augment(batch["image"], batch["label"], state.step + k, first_row)
        _, new = of_batch.apply(state.eval_variables, images, train=True, mutable=["batch_stats"])
        # Devices have parts of one size, with means of their own unless these are synchronised.
        own_mean = _moment(new["batch_stats"], "mean")
        mean = lax.pmean(own_mean, axis_name)
        var = lax.pmean(
            jax.tree.map(
                lambda var, own, all_: var + jnp.square(own - all_),
                _moment(new["batch_stats"], "var"),
                own_mean,
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


def _moment(batch_stats: Any, name: str) -> Moment:
    flat = traverse_util.flatten_dict(batch_stats)
    return {path[:-1]: leaf for path, leaf in flat.items() if path[-1] == name}
