"""What is minimised, and the sums that evaluation metrics are made of."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

__all__ = ["IGNORE_LABEL", "confusion_counts", "cross_entropy"]

IGNORE_LABEL = -1
"""The label of what neither the loss nor a metric counts; no class, however many there are."""


def cross_entropy(
    logits: Float[Array, "*labels classes"], labels: Int[Array, "*labels"]
) -> Float[Array, "*labels"]:
    """Softmax cross-entropy of each label, in nats and at least float32; 0 for `IGNORE_LABEL`.

    loss_i = log(sum_k exp(logits_ik)) - logits_i,labels_i

    A label belongs to an image, shape (batch,), or to a pixel, (batch, height, width).
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    counted = labels != IGNORE_LABEL
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(counted, labels, 0))
    return jnp.where(counted, losses, 0.0)


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
    return counts.at[labels, predictions].add((labels != IGNORE_LABEL).astype(jnp.int32))
