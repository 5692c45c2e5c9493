"""The evaluation step of one device."""

from collections.abc import Callable
from typing import cast

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from train.data.batch import IGNORED_LABEL, Batch
from train.steps.losses import cross_entropy
from train.steps.state import Metrics, TrainState
from train.steps.targets import confusion_counts

__all__ = ["EvalStep", "make_eval_step"]

EvalStep = Callable[[TrainState, Batch], Metrics]
"""A function of a state and a padded batch that returns sums over the examples."""


def make_eval_step(
    model: nn.Module, normalize_images: Callable[[Array], Array], axis_name: str
) -> EvalStep:
    """Make the evaluation step of one device.

    Args:
        model: The network, called as `model(images)` with `state.eval_variables`.
        normalize_images: Maps uint8 images to the input of the network.
        axis_name: Name of the mapped axis, over which the metrics are summed.

    Returns:
        A function of a state and a padded batch that returns sums over all devices, without the
        padding: `loss`, float32 scalar, in nats; `confusion`, int32 `(classes, classes)`, whose
        rows are labels and whose columns are predictions; `examples`, int32 scalar, the number of
        examples.
    """

    def eval_step(state: TrainState, batch: Batch) -> Metrics:
        images = normalize_images(batch["image"])
        logits = cast(Array, model.apply(state.eval_variables, images))
        labels, is_example = batch["label"], batch["is_example"] > 0
        expanded = jnp.expand_dims(is_example, range(1, labels.ndim))
        labels = jnp.where(expanded, labels, IGNORED_LABEL)
        sums = {
            "loss": jnp.sum(cross_entropy(logits, labels)),
            "confusion": confusion_counts(logits, labels),
            "examples": jnp.sum(is_example),
        }
        return lax.psum(sums, axis_name)

    return eval_step
