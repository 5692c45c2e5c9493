"""What is minimised, and the sums that evaluation metrics are made of."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from train.data.labels import IGNORE_LABEL

__all__ = ["confusion_counts", "correct", "counted", "cross_entropy"]

Targets = Int[Array, "*labels"] | Float[Array, "*labels classes"]
"""Classes by number, or a distribution over them, such as label smoothing and mixup make."""


def cross_entropy(
    logits: Float[Array, "*labels classes"], targets: Targets
) -> Float[Array, "*labels"]:
    """Cross-entropy of each label, in nats and at least float32; 0 for `IGNORE_LABEL`.

        loss_i = log(sum_k exp(logits_ik)) - logits_i,targets_i            of a class
        loss_i = log(sum_k exp(logits_ik)) - sum_k targets_ik logits_ik    of a distribution

    A label belongs to an image, shape (batch,), or to a pixel, (batch, height, width).
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if _is_distribution(targets):
        return optax.softmax_cross_entropy(logits, targets)
    labels = jnp.where(counted(targets), targets, 0)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.where(counted(targets), losses, 0.0)


def counted(targets: Targets) -> Bool[Array, "*labels"]:
    """Which labels count: all but `IGNORE_LABEL`."""
    if _is_distribution(targets):
        return jnp.ones(targets.shape[:-1], bool)
    return targets != IGNORE_LABEL


def correct(logits: Float[Array, "*labels classes"], targets: Targets) -> Bool[Array, "*labels"]:
    """Where the largest logit is that of the class, or of the likeliest one; never if ignored."""
    labels = jnp.argmax(targets, axis=-1) if _is_distribution(targets) else targets
    return jnp.argmax(logits, axis=-1) == labels


def confusion_counts(
    logits: Float[Array, "*labels classes"],
    labels: Int[Array, "*labels"],
) -> Int[Array, "classes classes"]:
    """How many labels of each class (rows) were taken for each class (columns).

    Labels that are `IGNORE_LABEL` are not counted.
    Integers: a float32 count would stop at 16,777,216. They hold 2,147,483,647 labels a batch.
    """
    classes = logits.shape[-1]
    counts = jnp.zeros((classes, classes), jnp.int32)
    predictions = jnp.argmax(logits, axis=-1)
    # An ignored label adds zero, wherever its index points.
    return counts.at[labels, predictions].add(counted(labels).astype(jnp.int32))


def _is_distribution(targets: Targets) -> bool:
    return jnp.issubdtype(targets.dtype, jnp.floating)
