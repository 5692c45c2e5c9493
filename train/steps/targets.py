"""Targets of a loss, and predictions compared with them."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from train.data.batch import IGNORED_LABEL

__all__ = [
    "Targets",
    "confusion_counts",
    "correct",
    "is_distribution",
    "valid_labels",
]

Targets = Int[Array, "*labels"] | Float[Array, "*labels classes"]
"""Class indices, or distributions over the classes (from label smoothing and mixup).

Classification has one target per image, `(batch,)`, and segmentation one per pixel,
`(batch, height, width)`. Distributions have a trailing axis of classes.
"""


def valid_labels(targets: Targets) -> Bool[Array, "*labels"]:
    """Return whether each target is a label and not `IGNORED_LABEL`.

    Args:
        targets: Class indices or distributions, as `Targets`.

    Returns:
        Booleans, `(batch,)` or `(batch, height, width)`. A distribution is always a label.
    """
    if is_distribution(targets):
        return jnp.ones(targets.shape[:-1], bool)
    return targets != IGNORED_LABEL


def correct(logits: Float[Array, "*labels classes"], targets: Targets) -> Bool[Array, "*labels"]:
    """Return whether each prediction, the class with the largest logit, is correct.

    Args:
        logits: Logits, `(batch, classes)` or `(batch, height, width, classes)`.
        targets: Class indices or distributions, as `Targets`. The label of a distribution is its
            most likely class.

    Returns:
        Booleans, `(batch,)` or `(batch, height, width)`; False where the target is `IGNORED_LABEL`.
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
            `IGNORED_LABEL` are not counted.

    Returns:
        Counts, int32 `(classes, classes)`. Counts in float32 would stop at 16,777,216; in int32 a
        batch may have up to 2,147,483,647 labels.
    """
    classes = logits.shape[-1]
    counts = jnp.zeros((classes, classes), jnp.int32)
    predictions = jnp.argmax(logits, axis=-1)
    # IGNORED_LABEL is a wrong index, but adds zero.
    return counts.at[labels, predictions].add(valid_labels(labels).astype(jnp.int32))


def is_distribution(targets: Targets) -> bool:
    """Return whether targets are distributions over the classes, and not class indices.

    Args:
        targets: Class indices or distributions, as `Targets`.

    Returns:
        Whether their dtype is a floating-point one.
    """
    return jnp.issubdtype(targets.dtype, jnp.floating)
