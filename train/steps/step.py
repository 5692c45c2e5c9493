"""What one device does in a training and in an evaluation step: pure functions."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, cast

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array

from train.data.labels import IGNORE_LABEL
from train.steps.accumulation import accumulate
from train.steps.losses import confusion_counts, correct, counted, cross_entropy
from train.steps.state import TrainState, moving_average

__all__ = [
    "Batch",
    "EvalStep",
    "Metrics",
    "Network",
    "TrainStep",
    "make_eval_step",
    "make_train_step",
]

Batch = Mapping[str, Array]
"""`image` uint8 (batch, height, width, channels), `label` int32 (batch,) or (batch, height, width),
and, for evaluation, `mask` (batch,): 1 for an example, 0 for padding."""


class Network(Protocol):
    """A linen module, or what stands for one."""

    def apply(self, variables: Any, *args: Any, **kwargs: Any) -> Any:
        """Logits, and the collections that were to be `mutable`."""


Metrics = dict[str, Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
EvalStep = Callable[[TrainState, Batch], Metrics]


def make_train_step(
    model: Network,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    augment: Callable[[Array, Array, Array, Array], tuple[Array, Array]],
    axis_name: str,
    accuracy_name: str = "accuracy",
    *,
    accumulation: int = 1,
    ema_decay: float = 0.0,
) -> TrainStep:
    """One step of gradient descent on this device's part of the global batch.

    `augment(images, labels, step, first_row)` makes the network's input of raw images, and their
    targets, classes or distributions over them; `first_row` is where this device's part begins in
    the global batch, so that what happens to an image need not depend on the number of devices.
    Loss and accuracy are means over the labels of the global batch that are not `IGNORE_LABEL`;
    gradients, metrics and running statistics are averaged over `axis_name`. The device's part is
    differentiated in `accumulation` microbatches, as in `accumulate`.

    Where the loss or a gradient is not finite, nothing changes but the counters and the loss scale.

    Metrics, each a scalar, float32 but for counts: `loss`, `accuracy_name`, `gradient_norm`,
    `learning_rate`; `skipped` and `skipped_in_row` of the new state; and, where the state has one,
    the `loss_scale` of this step.
    """

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        first_row = lax.axis_index(axis_name) * batch["label"].shape[0]
        images, targets = augment(batch["image"], batch["label"], state.step, first_row)
        # Devices may have different numbers of labels that count: divided by their mean number,
        # the mean over devices is the mean over all labels, and so is the sum over microbatches.
        total = jnp.maximum(lax.psum(jnp.sum(counted(targets)), axis_name), 1)
        share = total / lax.psum(1, axis_name)

        def gradients_of(batch_stats: Any, examples: tuple[Array, Array]) -> tuple[Any, Any]:
            images, targets = examples

            def loss_of(params: Any) -> tuple[Array, tuple[Array, Array, Any]]:
                variables = {"params": params, "batch_stats": batch_stats}
                logits, new = model.apply(variables, images, train=True, mutable=["batch_stats"])
                loss = jnp.sum(cross_entropy(logits, targets)) / share
                scaled = loss if state.loss_scale is None else state.loss_scale.scaled(loss)
                return scaled, (loss, logits, new.get("batch_stats", {}))

            gradients, (loss, logits, batch_stats_after) = jax.grad(loss_of, has_aux=True)(
                state.params
            )
            accuracy = jnp.sum(correct(logits, targets)) / share
            return (gradients, loss, accuracy), batch_stats_after

        sums, batch_stats = accumulate(
            gradients_of, state.batch_stats, (images, targets), accumulation
        )
        # Running statistics differ between devices unless batch norm is synchronised.
        (gradients, loss, accuracy), batch_stats = lax.pmean((sums, batch_stats), axis_name)
        if state.loss_scale is not None:
            gradients = state.loss_scale.unscaled(gradients)
        gradient_norm = optax.tree.norm(gradients)
        finite = jnp.isfinite(loss) & jnp.isfinite(gradient_norm)

        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        updated = state.replace(params=params, batch_stats=batch_stats, opt_state=opt_state)
        updated = updated.replace(ema=moving_average(updated, ema_decay))
        kept = jax.tree.map(partial(jnp.where, finite), updated, state)
        new_state = kept.replace(
            step=state.step + 1,
            skipped=state.skipped + ~finite,
            skipped_in_row=jnp.where(finite, 0, state.skipped_in_row + 1),
            loss_scale=state.loss_scale and state.loss_scale.after(finite),
        )
        metrics = {
            "loss": loss,
            accuracy_name: accuracy,
            "gradient_norm": gradient_norm,
            "learning_rate": jnp.asarray(schedule(state.updates), jnp.float32),
            "skipped": new_state.skipped,
            "skipped_in_row": new_state.skipped_in_row,
        }
        if state.loss_scale is not None:
            metrics["loss_scale"] = state.loss_scale.scale
        return new_state, metrics

    return train_step


def make_eval_step(model: Network, prepare: Callable[[Array], Array], axis_name: str) -> EvalStep:
    """Sums over the real examples of a padded batch, over all devices, of `eval_variables`.

    `prepare(images)` makes the network's input of raw images.

    Metrics: `loss`, the sum of losses, float32; `confusion`, int32 (classes, classes), rows are
    labels and columns predictions; `examples`, how many were real, int32.
    """

    def eval_step(state: TrainState, batch: Batch) -> Metrics:
        logits = cast(Array, model.apply(state.eval_variables, prepare(batch["image"])))
        labels, real = batch["label"], batch["mask"] > 0
        labels = jnp.where(jnp.expand_dims(real, range(1, labels.ndim)), labels, IGNORE_LABEL)
        sums = {
            "loss": jnp.sum(cross_entropy(logits, labels)),
            "confusion": confusion_counts(logits, labels),
            "examples": jnp.sum(real),
        }
        return lax.psum(sums, axis_name)

    return eval_step
