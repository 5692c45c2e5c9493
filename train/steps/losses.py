"""The loss that training minimizes: cross-entropy or focal loss, class weights, and soft Dice."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from aff_jax.lookup import look_up
from train.steps.targets import Targets, is_distribution, valid_labels

__all__ = [
    "CLASS_WEIGHTS",
    "LOSSES",
    "LossTerms",
    "LossTotals",
    "TrainingLoss",
    "balanced_weights",
    "cross_entropy",
    "dice_losses",
    "label_losses",
    "label_weights",
]

CLASS_WEIGHTS = ("", "balanced")
"""Names of the class weights; "" is none."""


class LossTerms(NamedTuple):
    """The terms of a loss.

    Attributes:
        gamma: Exponent of the focal loss; 0 is the cross-entropy.
        dice: Whether the Dice losses of the images are added. They need masks.
    """

    gamma: float = 0.0
    dice: bool = False


LOSSES = {
    "cross_entropy": LossTerms(),
    "focal": LossTerms(gamma=2.0),  # recommended by Lin et al.
    "cross_entropy_dice": LossTerms(dice=True),
}
"""The losses by name."""


class LossTotals(NamedTuple):
    """Divisors of the sums of a loss.

    Attributes:
        label_weight: Sum of the weights of the labels, scalar.
        image_count: Number of images with a label, scalar.
    """

    label_weight: Array
    image_count: Array


@dataclasses.dataclass(frozen=True)
class TrainingLoss:
    """The loss that training minimizes, as a sum over labels and images.

    With the totals of the global batch, the losses of the microbatches of all devices add up to the
    loss of the global batch.

    Attributes:
        name: A name in `LOSSES`.
        class_weights: Weight of each class, or None.

    Raises:
        ValueError: If there is no such loss.
    """

    name: str = "cross_entropy"
    class_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        look_up(LOSSES, "loss", self.name)

    def totals(self, targets: Targets) -> LossTotals:
        """Compute what the sums of the loss are divided by.

        Args:
            targets: Class indices or distributions, as `Targets`.

        Returns:
            The totals of these targets. They may be added to the totals of other targets.
        """
        valid = valid_labels(targets)
        images = jnp.sum(jnp.any(valid, axis=tuple(range(1, valid.ndim))))
        if self.class_weights is None:
            return LossTotals(jnp.sum(valid), images)
        return LossTotals(jnp.sum(label_weights(targets, self.class_weights)), images)

    def __call__(
        self, logits: Float[Array, "*labels classes"], targets: Targets, totals: LossTotals
    ) -> Float[Array, ""]:
        """Compute the loss.

        It is, with the losses l_i of the labels i and the Dice losses d_n of the images n::

            sum_i l_i / totals.label_weight                                     without Dice losses
            sum_i l_i / totals.label_weight + sum_n d_n / totals.image_count    with them

        Args:
            logits: Logits of any floating-point dtype.
            targets: Class indices or distributions, as `Targets`.
            totals: What to divide by, none of them 0.

        Returns:
            The loss, a scalar, float32 or wider.
        """
        gamma, dice = LOSSES[self.name]
        losses = label_losses(logits, targets, gamma=gamma, class_weights=self.class_weights)
        loss = jnp.sum(losses) / totals.label_weight
        if dice:
            loss = loss + jnp.sum(dice_losses(logits, targets)) / totals.image_count
        return loss


def cross_entropy(
    logits: Float[Array, "*labels classes"], targets: Targets
) -> Float[Array, "*labels"]:
    """Compute the cross-entropy of each label, in nats.

    The loss is::

        loss_i = log(sum_k exp(logits_ik)) - logits_i,targets_i            for class indices
        loss_i = log(sum_k exp(logits_ik)) - sum_k targets_ik logits_ik    for distributions

    Args:
        logits: Logits of any floating-point dtype.
        targets: Class indices or distributions, as `Targets`.

    Returns:
        The loss of each label, `(batch,)` or `(batch, height, width)`, float32 or wider. It is 0
        where the target is `IGNORED_LABEL`.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    if is_distribution(targets):
        return optax.softmax_cross_entropy(logits, targets)
    labels = jnp.where(valid_labels(targets), targets, 0)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return jnp.where(valid_labels(targets), losses, 0.0)


def balanced_weights(class_counts: np.ndarray) -> tuple[float, ...]:
    """Compute the class weights for which all classes have the same total weight.

    With n_k labels of class k, N labels, and K classes that have labels, they are::

        w_k = N / (K n_k)      so that the mean weight of a label is 1
        w_k = 1                for a class without labels

    Args:
        class_counts: Number of labels of each class, `(classes,)`.

    Returns:
        One weight for each class.
    """
    counts = np.asarray(class_counts, np.float64)
    weights = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return tuple(np.where(counts > 0, weights, 1.0).tolist())


def label_weights(targets: Targets, class_weights: tuple[float, ...]) -> Float[Array, "*labels"]:
    """Compute the weight of each label, by which a weighted mean is normalized.

    It is::

        w_targets_i             for class indices, 0 for `IGNORED_LABEL`
        sum_k targets_ik w_k    for distributions

    Args:
        targets: Class indices or distributions, as `Targets`.
        class_weights: Weight of each class.

    Returns:
        The weights, float32 or wider, of the shape of the labels.
    """
    if is_distribution(targets):
        return jnp.sum(targets * jnp.asarray(class_weights, targets.dtype), axis=-1)
    weights = jnp.asarray(class_weights)[jnp.where(valid_labels(targets), targets, 0)]
    return jnp.where(valid_labels(targets), weights, 0.0)


def label_losses(
    logits: Float[Array, "*labels classes"],
    targets: Targets,
    *,
    gamma: float = 0.0,
    class_weights: tuple[float, ...] | None = None,
) -> Float[Array, "*labels"]:
    """Compute the weighted focal loss of each label, in nats.

    With the probabilities p = softmax(logits), the class weights w, and the targets t, which are
    one-hot for class indices, it is::

        loss_i = -sum_k t_ik w_k (1 - p_ik)^gamma log p_ik

    For gamma = 0 it is the weighted cross-entropy.

    Args:
        logits: Logits of any floating-point dtype.
        targets: Class indices or distributions, as `Targets`.
        gamma: The exponent: 0, or at least 1, so that the gradient is finite.
        class_weights: Weight of each class; None is 1 for all.

    Returns:
        The loss of each label, float32 or wider. It is 0 where the target is `IGNORED_LABEL`.

    References:
        Lin et al., Focal Loss for Dense Object Detection, 2017, equation 5, with the softmax in
        place of the sigmoid.
    """
    if not gamma and class_weights is None:
        return cross_entropy(logits, targets)
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    log_p = jax.nn.log_softmax(logits)
    losses = -log_p
    if gamma:
        losses = losses * (-jnp.expm1(log_p)) ** gamma
    if class_weights is not None:
        losses = losses * jnp.asarray(class_weights, losses.dtype)
    if is_distribution(targets):
        return jnp.sum(targets * losses, axis=-1)
    valid = valid_labels(targets)
    labels = jnp.where(valid, targets, 0)
    return jnp.where(valid, jnp.take_along_axis(losses, labels[..., None], axis=-1)[..., 0], 0.0)


def dice_losses(
    logits: Float[Array, "batch height width classes"], targets: Targets
) -> Float[Array, " batch"]:
    """Compute the soft Dice loss of each image.

    With the probabilities p = softmax(logits), the one-hot targets t, and sums over the pixels i of
    an image that have a label, it is the mean over the classes k that the image has of::

        1 - 2 sum_i p_ik t_ik / (sum_i p_ik^2 + sum_i t_ik^2)

    A mean over images adds up over devices and microbatches; the ratio of the sums of a whole batch
    would not.

    Args:
        logits: Logits of any floating-point dtype.
        targets: Class indices `(batch, height, width)`, or distributions with a trailing axis.

    Returns:
        The loss of each image, float32 or wider, in 0 .. 1. It is 0 for an image without labels.

    References:
        Milletari et al., V-Net, 2016, section 3, for each class.
    """
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    valid = valid_labels(targets)[..., None]
    one_hot = targets if is_distribution(targets) else jax.nn.one_hot(targets, logits.shape[-1])
    # Logits of ignored pixels may be anything, even NaN, and have no gradient.
    p = jnp.where(valid, jax.nn.softmax(jnp.where(valid, logits, 0.0)), 0.0)
    t = jnp.where(valid, one_hot, 0.0).astype(p.dtype)
    pixels = tuple(range(1, t.ndim - 1))
    overlaps, sizes = (jnp.sum(x, axis=pixels) for x in (p * t, p**2 + t**2))
    present = jnp.any(t > 0, axis=pixels)
    losses = jnp.where(present, 1 - 2 * overlaps / jnp.where(present, sizes, 1.0), 0.0)
    return jnp.sum(losses, axis=-1) / jnp.maximum(jnp.sum(present, axis=-1), 1)
