"""Two images in one, and what the loss compares the network's answer with.

Sources: Zhang et al., mixup, ICLR 2018; Yun et al., CutMix, ICCV 2019; Szegedy et al., Rethinking
the Inception Architecture, 2016, section 7, for label smoothing. As in GluonCV's scripts, a batch
is paired with itself in reverse order and one weight is drawn for all of it. They reverse each
device's part; here the global batch is reversed, so that the number of devices is of no account.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Shaped, UInt8

from train.data.augment.erasing import inside

__all__ = ["Mixing", "reverse"]


def reverse(
    batch: Shaped[Array, "batch ..."], axis_name: str | None = None
) -> Shaped[Array, "batch ..."]:
    """The global batch in reverse order: row r of N is row N - 1 - r.

    `axis_name` is the mapped axis of the devices that share the batch, each with consecutive rows.
    """
    if axis_name is not None:
        devices = jax.lax.axis_size(axis_name)
        exchange = [(device, devices - 1 - device) for device in range(devices)]
        batch = jax.lax.ppermute(batch, axis_name, exchange)
    return batch[::-1]


def symmetric_beta(
    key: Key[Array, ""], alpha: float, shape: tuple[int, ...] = ()
) -> Float[Array, "..."]:
    """Numbers from Beta(alpha, alpha) as g_1 / (g_1 + g_2), g_i ~ Gamma(alpha); float32."""
    # Of logarithms: where alpha is small, both g may be too small for float32. It also compiles in
    # half the time of `jax.random.beta`, which draws each g with a generator of its own.
    one, other = jax.random.loggamma(key, alpha, (2, *shape), jnp.float32)
    return jax.nn.sigmoid(one - other)


def mixup_weight(key: Key[Array, ""], alpha: float) -> Float[Array, "1 1"]:
    """How much of an image is its own: lambda ~ Beta(alpha, alpha), for all pixels the same.

    A multiple of 2^-16, so that its product with a grey level has no more than float32's 24 bits.
    """
    return jnp.round(symmetric_beta(key, alpha, (1, 1)) * 2**16) / 2**16


def cutmix_weight(
    key: Key[Array, ""], alpha: float, height: int, width: int
) -> Float[Array, "height width"]:
    """Which pixels of an image are its own: 0 in a rectangle, 1 elsewhere.

    Of each side the rectangle has sqrt(1 - lambda), lambda ~ Beta(alpha, alpha), around a pixel
    drawn uniformly; what is beyond the image is cut off.
    """
    lambda_key, place_key = jax.random.split(key)
    size, sides = jnp.sqrt(1 - symmetric_beta(lambda_key, alpha)), jnp.array([height, width])
    rows, columns = (size * sides).astype(jnp.int32)
    row, column = (jax.random.uniform(place_key, (2,), jnp.float32) * sides).astype(jnp.int32)
    top, left = row - rows // 2, column - columns // 2
    cut = inside(top, left, top + rows, left + columns, height, width)
    return 1 - cut.astype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class Mixing:
    """What becomes of augmented images and their labels at last; by default nothing.

    `mixup_alpha` and `cutmix_alpha` are those of the Beta distributions, 0 for never; with both,
    each batch has one of them, either with probability 1/2. From the step `stop` on, counted from
    0, nothing is mixed. Labels are smoothed by `smoothing` to the end.
    """

    classes: int
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    smoothing: float = 0.0
    stop: float = math.inf

    @property
    def mixes(self) -> bool:
        """Whether images are ever mixed."""
        return bool(self.mixup_alpha or self.cutmix_alpha)

    def __call__(
        self,
        key: Key[Array, ""],
        images: UInt8[Array, "batch height width channels"],
        labels: Int[Array, " batch"],
        step: Int[Array, ""] | int = 0,
        axis_name: str | None = None,
    ) -> tuple[Shaped[Array, "batch height width channels"], Shaped[Array, "batch ..."]]:
        """Images, as float32 levels in 0 .. 255 where `mixes`, and targets.

            w image_r + (1 - w) image_(N - 1 - r),   m target_r + (1 - m) target_(N - 1 - r)

        with r the row in the global batch of N, w the weight of each pixel and m its mean. Targets
        are float32 (batch, classes), but the labels themselves where nothing is ever mixed or
        smoothed. `axis_name` is as for `reverse`.

        Before normalization, which is affine, a mixture is what it is after it, but its sums are
        exact: no compiler can round them in another way for another number of devices.
        """
        if not self.mixes:
            return images, self._smooth(self._one_hot(labels)) if self.smoothing else labels
        weight = jnp.where(step < self.stop, self._weight(key, *images.shape[1:3]), 1)
        own, other = (x.astype(jnp.float32) for x in (images, reverse(images, axis_name)))
        mixed = _between(weight[..., None], own, other)
        targets = map(self._one_hot, (labels, reverse(labels, axis_name)))
        return mixed, self._smooth(_between(jnp.mean(weight), *targets))

    def _weight(self, key: Key[Array, ""], height: int, width: int) -> Float[Array, "..."]:
        choice_key, mixup_key, cutmix_key = jax.random.split(key, 3)
        if not self.cutmix_alpha:
            return mixup_weight(mixup_key, self.mixup_alpha)
        cutmix = cutmix_weight(cutmix_key, self.cutmix_alpha, height, width)
        if not self.mixup_alpha:
            return cutmix
        mixup = mixup_weight(mixup_key, self.mixup_alpha)
        return jnp.where(jax.random.bernoulli(choice_key), mixup, cutmix)

    def _one_hot(self, labels: Int[Array, " batch"]) -> Float[Array, "batch classes"]:
        return jax.nn.one_hot(labels, self.classes, dtype=jnp.float32)

    def _smooth(self, targets: Float[Array, "batch classes"]) -> Float[Array, "batch classes"]:
        """1 - smoothing of what is there, and smoothing / classes more for every class."""
        return (1 - self.smoothing) * targets + self.smoothing / self.classes


def _between(weight: Array, one: Array, other: Array) -> Array:
    return weight * one + (1 - weight) * other
