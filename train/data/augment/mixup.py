"""Mixup, CutMix and label smoothing.

As in GluonCV's training scripts, each image is mixed with the image at the same position of the
reversed batch, and one weight is drawn for the whole batch. GluonCV reverses the batch of each
device. Here the global batch is reversed, so the result does not depend on the number of devices.

References:
    Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018. Yun et al., CutMix, ICCV
    2019. Szegedy et al., Rethinking the Inception Architecture, 2016, section 7, for label
    smoothing.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, Shaped, UInt8

from train.data.augment.random_erasing import rectangle_mask

__all__ = ["Mixup", "symmetric_beta"]


def _reverse(rows: Shaped[Array, "batch ..."], axis_name: str | None) -> Shaped[Array, "batch ..."]:
    """Return the rows of this device of the reversed global batch: row r of N is row N - 1 - r."""
    if axis_name is not None:
        devices = jax.lax.axis_size(axis_name)
        exchange = [(device, devices - 1 - device) for device in range(devices)]
        rows = jax.lax.ppermute(rows, axis_name, exchange)
    return rows[::-1]


def symmetric_beta(
    key: Key[Array, ""], alpha: float, shape: tuple[int, ...] = ()
) -> Float[Array, "..."]:
    """Draw float32 numbers from Beta(alpha, alpha).

    They are computed as g_1 / (g_1 + g_2) with g_i from Gamma(alpha).

    Args:
        key: Key of the numbers.
        alpha: Both parameters of the Beta distribution.
        shape: Shape of the result.

    Returns:
        float32 array in 0 .. 1.
    """
    # Use logarithms, because both g can underflow float32 if alpha is small. This compiles in half
    # the time of `jax.random.beta`, which has a separate generator for each g.
    one, other = jax.random.loggamma(key, alpha, (2, *shape), jnp.float32)
    return jax.nn.sigmoid(one - other)


def _mixup_weight(key: Key[Array, ""], alpha: float) -> Float[Array, "1 1"]:
    """Draw mixup's weight from Beta(alpha, alpha): one weight for all pixels of all images."""
    # A multiple of 2^-16, so its product with an 8-bit pixel is exact in float32, with 24 bits.
    return jnp.round(symmetric_beta(key, alpha, (1, 1)) * 2**16) / 2**16


def _cutmix_weight(
    key: Key[Array, ""], alpha: float, height: int, width: int
) -> Float[Array, "height width"]:
    """Draw CutMix's weight of each pixel: 0 in a rectangle and 1 elsewhere.

    The sides of the rectangle are the sides of the image times sqrt(1 - lambda), with lambda from
    Beta(alpha, alpha). Its center is uniform in the image. The rectangle is clipped to the image.
    """
    lambda_key, place_key = jax.random.split(key)
    size, sides = jnp.sqrt(1 - symmetric_beta(lambda_key, alpha)), jnp.array([height, width])
    rows, columns = (size * sides).astype(jnp.int32)
    row, column = (jax.random.uniform(place_key, (2,), jnp.float32) * sides).astype(jnp.int32)
    top, left = row - rows // 2, column - columns // 2
    cut = rectangle_mask(top, left, top + rows, left + columns, height, width)
    return 1 - cut.astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class Mixup:
    """Mixup, CutMix and label smoothing of a batch. The default changes nothing.

    Attributes:
        num_classes: Number of classes.
        mixup_alpha: Parameter of mixup's Beta distribution; 0 is off.
        cutmix_alpha: Parameter of CutMix's Beta distribution; 0 is off. If both are on, each batch
            uses one of them, with probability 1/2.
        label_smoothing: Probability that is spread over all classes; 0 is off.
        stop: First step, counted from 0, from which images are not mixed. Labels are still
            smoothed.
    """

    num_classes: int
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    label_smoothing: float = 0.0
    stop: float = math.inf

    @property
    def mixes(self) -> bool:
        """Return whether images are mixed in some steps."""
        return bool(self.mixup_alpha or self.cutmix_alpha)

    def __call__(
        self,
        key: Key[Array, ""],
        images: UInt8[Array, "batch height width channels"],
        labels: Int[Array, " batch"],
        step: Int[Array, ""] | int = 0,
        axis_name: str | None = None,
    ) -> tuple[Shaped[Array, "batch height width channels"], Shaped[Array, "batch ..."]]:
        """Mix the images of a batch, and compute their targets.

        The outputs are::

            w * image_r + (1 - w) * image_(N - 1 - r)
            m * target_r + (1 - m) * target_(N - 1 - r)

        where r is the row in the global batch of size N, w is the weight of each pixel, and m is
        the mean of w, the lambda of both papers. In mixup, w is m everywhere. In CutMix, w is 0 in
        the rectangle and 1 elsewhere.

        Images are mixed before they are normalized. Normalization is affine, so the order does not
        matter mathematically. But sums of raw pixels are exact, so the compiler cannot round them
        differently for another number of devices.

        Args:
            key: Key of the step.
            images: uint8 images of this device.
            labels: Class numbers.
            step: Step, counted from 0.
            axis_name: Mapped axis of the devices that share the global batch in consecutive blocks;
                None if there is one device.

        Returns:
            Images, as float32 in 0 .. 255 if `mixes`, else unchanged. Targets, as float32
            probabilities (batch, classes), or the unchanged labels if nothing is mixed or smoothed.
        """
        if not self.mixes:
            return images, self._smooth(self._one_hot(labels)) if self.label_smoothing else labels
        weight = jnp.where(step < self.stop, self._weight(key, *images.shape[1:3]), 1)
        own, other = (x.astype(jnp.float32) for x in (images, _reverse(images, axis_name)))
        mixed = _weighted_mean(weight[..., None], own, other)
        targets = map(self._one_hot, (labels, _reverse(labels, axis_name)))
        return mixed, self._smooth(_weighted_mean(jnp.mean(weight), *targets))

    def _weight(self, key: Key[Array, ""], height: int, width: int) -> Float[Array, "..."]:
        choice_key, mixup_key, cutmix_key = jax.random.split(key, 3)
        if not self.cutmix_alpha:
            return _mixup_weight(mixup_key, self.mixup_alpha)
        cutmix = _cutmix_weight(cutmix_key, self.cutmix_alpha, height, width)
        if not self.mixup_alpha:
            return cutmix
        mixup = _mixup_weight(mixup_key, self.mixup_alpha)
        return jnp.where(jax.random.bernoulli(choice_key), mixup, cutmix)

    def _one_hot(self, labels: Int[Array, " batch"]) -> Float[Array, "batch classes"]:
        return jax.nn.one_hot(labels, self.num_classes, dtype=jnp.float32)

    def _smooth(self, targets: Float[Array, "batch classes"]) -> Float[Array, "batch classes"]:
        return optax.smooth_labels(targets, self.label_smoothing)


def _weighted_mean(weight: Array, one: Array, other: Array) -> Array:
    return weight * one + (1 - weight) * other
