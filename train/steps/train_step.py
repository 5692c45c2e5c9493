"""The training step of one device."""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array

from train.data.batch import Batch
from train.steps.accumulation import accumulate
from train.steps.losses import LossTotals, TrainingLoss
from train.steps.precision import unscale, update_loss_scale
from train.steps.state import Metrics, TrainState, moving_average
from train.steps.targets import correct, valid_labels

__all__ = ["Network", "TrainStep", "make_train_step"]

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
"""A function of a state and a batch that returns the next state and the metrics."""


class Network(Protocol):
    """A linen module, or another object with its `apply`."""

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the logits and the updated `mutable` collections.

        Args:
            variables: Variables of the network.
            *args: Arguments of the network.
            **kwargs: Keyword arguments of `nn.Module.apply`, such as `mutable`.

        Returns:
            The logits, or, with `mutable`, a tuple of them and the updated collections.
        """


def make_train_step(
    model: Network,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    augment: Callable[[Array, Array, Array, Array], tuple[Array, Array]],
    axis_name: str,
    accuracy_name: str = "accuracy",
    *,
    loss_function: TrainingLoss = TrainingLoss(),  # noqa: B008  (it is immutable)
    accumulation: int = 1,
    ema_decay: float = 0.0,
) -> TrainStep:
    """Make the training step of one device.

    Each device computes the gradients of its block of the global batch. Gradients, metrics and
    running statistics are averaged over `axis_name`. Loss and accuracy are means over all labels of
    the global batch except `IGNORED_LABEL`; with class weights, the loss is the weighted mean.

    If the loss or a gradient is not finite, the step is skipped: only the counters and the loss
    scale change.

    Args:
        model: The network, called as `model(images, train=True)`.
        optimizer: The optimizer, with the learning rate.
        schedule: Learning rate as a function of the number of updates, for the metrics.
        augment: Called as `augment(images, labels, step, first_row)` with uint8 images. Returns
            the input of the network and the targets, which are class indices or distributions.
            `first_row` is the position of this device's block in the global batch, so that
            augmentation does not depend on the number of devices.
        axis_name: Name of the mapped axis.
        accuracy_name: Name of the accuracy in the metrics.
        loss_function: The loss.
        accumulation: Number of microbatches, as in `accumulate`.
        ema_decay: Decay of the moving averages, as in `moving_average`.

    Returns:
        A function of a state and a batch that returns the next state and metrics. The metrics are
        scalars: `loss`, `accuracy_name`, `gradient_norm` and `learning_rate` are float32;
        `skipped` and `skipped_in_row` are int32 counters of the next state. With a loss scale,
        `loss_scale` is the scale of this step.
    """

    def gradients_of(
        state: TrainState,
        label_count: Array,
        totals: LossTotals,
        batch_stats: Any,
        examples: tuple[Array, Array],
    ) -> tuple[tuple[Any, Array, Array], Any]:
        """Return gradients, loss and accuracy as sums over examples, divided by the totals."""
        images, targets = examples

        def loss_of(params: Any) -> tuple[Array, tuple[Array, Array, Any]]:
            variables = {"params": params, "batch_stats": batch_stats}
            logits, new = model.apply(variables, images, train=True, mutable=["batch_stats"])
            loss = loss_function(logits, targets, totals)
            scaled = loss if state.loss_scale is None else loss * state.loss_scale.scale
            return scaled, (loss, logits, new.get("batch_stats", {}))

        gradients, (loss, logits, new_stats) = jax.grad(loss_of, has_aux=True)(state.params)
        accuracy = jnp.sum(correct(logits, targets)) / label_count
        return (gradients, loss, accuracy), new_stats

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        first_row = lax.axis_index(axis_name) * batch["label"].shape[0]
        examples = augment(batch["image"], batch["label"], state.step, first_row)
        targets = examples[1]

        label_count = _mean_over_devices(jnp.sum(valid_labels(targets)), axis_name)
        totals = LossTotals(
            *(_mean_over_devices(total, axis_name) for total in loss_function.totals(targets))
        )
        sums, batch_stats = accumulate(
            partial(gradients_of, state, label_count, totals),
            state.batch_stats,
            examples,
            accumulation,
        )
        # Without synchronized batch norm, the running statistics of the devices differ.
        (gradients, loss, accuracy), batch_stats = lax.pmean((sums, batch_stats), axis_name)
        if state.loss_scale is not None:
            gradients = unscale(state.loss_scale, gradients)
        gradient_norm = optax.tree.norm(gradients)

        # `optax.apply_if_finite` would skip the update of the parameters, but not the updates of
        # running statistics and moving averages.
        finite = jnp.isfinite(loss) & jnp.isfinite(gradient_norm)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        updated = state.replace(params=params, batch_stats=batch_stats, opt_state=opt_state)
        updated = updated.replace(ema=moving_average(updated, ema_decay))
        new_state = jax.tree.map(partial(jnp.where, finite), updated, state).replace(
            step=state.step + 1,
            skipped=state.skipped + ~finite,
            skipped_in_row=jnp.where(finite, 0, state.skipped_in_row + 1),
            loss_scale=state.loss_scale and update_loss_scale(state.loss_scale, finite),
        )

        metrics = {
            "loss": loss,
            accuracy_name: accuracy,
            "gradient_norm": gradient_norm,
            "learning_rate": jnp.asarray(schedule(state.update_count), jnp.float32),
            "skipped": new_state.skipped,
            "skipped_in_row": new_state.skipped_in_row,
        }
        if state.loss_scale is not None:
            metrics["loss_scale"] = state.loss_scale.scale
        return new_state, metrics

    return train_step


def _mean_over_devices(total: Array, axis_name: str) -> Array:
    """Return the mean of a total over the devices, as a divisor: a total of 0 counts as 1.

    Devices may have different numbers of labels. If each divides its sum by the mean number, the
    mean over the devices is the mean over all labels.
    """
    total = lax.psum(total, axis_name)
    return jnp.where(total > 0, total, jnp.ones_like(total)) / lax.psum(1, axis_name)
