"""What is minimised, and the sums that evaluation metrics are made of."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

__all__ = ["IGNORE_LABEL", "confusion_counts", "cross_entropy"]

IGNORE_LABEL = -1
"""The label of what neither the loss nor a metric counts; no class, however many there are."""


def cross_entropy(
    logits: Float[Array, "batch classes"], labels: Int[Array, "batch"]
) -> Float[Array, "batch"]:
    """Softmax cross-entropy of each example, in nats and at least float32.

    loss_i = log(sum_k exp(logits_ik)) - logits_i,labels_i
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def confusion_counts(
    logits: Float[Array, "batch classes"],
    labels: Int[Array, "batch"],
    mask: Float[Array, "batch"],
) -> Int[Array, "classes classes"]:
    """How many examples of each class (rows) were taken for each class (columns).

    Rows of the batch whose `mask` is zero are not counted. Integers: a float32 count would stop at
    16,777,216.
    """
    classes = logits.shape[-1]
    counts = jnp.zeros((classes, classes), jnp.int32)
    return counts.at[labels, jnp.argmax(logits, axis=-1)].add(mask.astype(jnp.int32))
