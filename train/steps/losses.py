"""Cross-entropy, and the counts from which evaluation metrics are computed."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from train.data.batch import IGNORE_LABEL

__all__ = [
    "Targets",
    "confusion_counts",
    "correct",
    "cross_entropy",
    "is_distribution",
    "valid_labels",
]

Targets = Int[Array, "*labels"] | Float[Array, "*labels classes"]
"""Class indices, or distributions over the classes (from label smoothing and mixup)."""


def cross_entropy(
    logits: Float[Array, "*labels classes"], targets: Targets
) -> Float[Array, "*labels"]:
    """Compute the cross-entropy of each label, in nats.

    The loss is::

        loss_i = log(sum_k exp(logits_ik)) - logits_i,targets_i            for class indices
        loss_i = log(sum_k exp(logits_ik)) - sum_k targets_ik logits_ik    for distributions

    Args:
        logits: Logits of any floating-point dtype.
        targets: One target per image, `(batch,)`, or per pixel, `(batch, height, width)`; with a
            trailing axis of classes for distributions.

    Returns:
        The loss of each label, `(batch,)` or `(batch, height, width)`, float32 or wider. It is 0
        where the target is `IGNORE_LABEL`.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if is_distribution(targets):
        return optax.softmax_cross_entropy(logits, targets)
    labels = jnp.where(valid_labels(targets), targets, 0)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.where(valid_labels(targets), losses, 0.0)


def valid_labels(targets: Targets) -> Bool[Array, "*labels"]:
    """Return whether each target is a label and not `IGNORE_LABEL`.

    Args:
        targets: Targets as in `cross_entropy`.

    Returns:
        Booleans, `(batch,)` or `(batch, height, width)`. A distribution is always a label.
    """
    if is_distribution(targets):
        return jnp.ones(targets.shape[:-1], bool)
    return targets != IGNORE_LABEL


def correct(logits: Float[Array, "*labels classes"], targets: Targets) -> Bool[Array, "*labels"]:
    """Return whether each prediction, the class with the largest logit, is correct.

    Args:
        logits: Logits, `(batch, classes)` or `(batch, height, width, classes)`.
        targets: Targets as in `cross_entropy`. The label of a distribution is its most likely
            class.

    Returns:
        Booleans, `(batch,)` or `(batch, height, width)`; False where the target is `IGNORE_LABEL`.
    """
    labels = jnp.argmax(targets, axis=-1) if is_distribution(targets) else targets
    return jnp.argmax(logits, axis=-1) == labels


def confusion_counts(
    logits: Float[Array, "*labels classes"],
    labels: Int[Array, "*labels"],
) -> Int[Array, "classes classes"]:
    """Count how often each class (rows) was predicted as each class (columns).

    Args:
        logits: Logits, `(batch, classes)` or `(batch, height, width, classes)`.
        labels: Class indices, `(batch,)` or `(batch, height, width)`. Labels equal to
            `IGNORE_LABEL` are not counted.

    Returns:
        Counts, int32 `(classes, classes)`. Counts in float32 would stop at 16,777,216; in int32 a
        batch may have up to 2,147,483,647 labels.
    """
    classes = logits.shape[-1]
    counts = jnp.zeros((classes, classes), jnp.int32)
    predictions = jnp.argmax(logits, axis=-1)
    # IGNORE_LABEL is a wrong index, but adds zero.
    return counts.at[labels, predictions].add(valid_labels(labels).astype(jnp.int32))


def is_distribution(targets: Targets) -> bool:
    """Return whether targets are distributions over the classes, and not class indices.

    Args:
        targets: Targets as in `cross_entropy`.

    Returns:
        Whether their dtype is a floating-point one.
    """
    return jnp.issubdtype(targets.dtype, jnp.floating)
