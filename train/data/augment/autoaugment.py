"""AutoAugment: each image gets one of 25 pairs of operations, each applied with a probability.

The policies come from the paper's appendix, and the magnitudes come from its published code.
AutoGluon, with which the authors of Attentional Feature Fusion trained, has the same magnitudes.
Affine maps use nearest-neighbor resampling and fill with gray; AutoGluon shears and translates with
bicubic resampling and fills with black. In each policy of AutoGluon one level differs from the
paper's: ("Color", 0.2) has level 6 for CIFAR, and ("Color", 1.0) has level 0 for ImageNet.

References:
    Cubuk et al., AutoAugment: Learning Augmentation Strategies from Data, CVPR 2019.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key, UInt8

from aff_jax.lookup import look_up
from train.data.augment.color import COLOR
from train.data.augment.geometry import AFFINE, fixed_point, resample
from train.data.augment.random_per_image import Images, image_keys, map_images

__all__ = ["MAGNITUDES", "OPERATIONS", "POLICIES", "PolicySteps", "autoaugment"]

MAGNITUDES = {
    "ShearX": lambda level: 0.03 * level,
    "ShearY": lambda level: 0.03 * level,
    "TranslateX": lambda level: level,
    "TranslateY": lambda level: level,
    "Rotate": lambda level: 3 * level,
    "AutoContrast": lambda level: 0,
    "Invert": lambda level: 0,
    "Equalize": lambda level: 0,
    "Solarize": lambda level: 256 - int(25.6 * level),
    "Posterize": lambda level: 4 - int(0.4 * level),
    "Contrast": lambda level: 0.1 + 0.18 * level,
    "Color": lambda level: 0.1 + 0.18 * level,
    "Brightness": lambda level: 0.1 + 0.18 * level,
    "Sharpness": lambda level: 0.1 + 0.18 * level,
}
"""Functions that return the magnitude of an operation at a level of 0 .. 9.

Shears are in pixels per pixel, translations in pixels and rotations in degrees; each is negated
with probability 1/2. Solarize has a threshold, Posterize a number of bits, and the last four have
factors, of which 1 changes nothing.
"""

_PolicyStep = tuple[str, float, int]
"""An operation, its probability and its level."""

POLICIES: dict[str, tuple[tuple[_PolicyStep, _PolicyStep], ...]] = {
    "cifar10": (
        (("Invert", 0.1, 7), ("Contrast", 0.2, 6)),
        (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
        (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
        (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
        (("AutoContrast", 0.5, 8), ("Equalize", 0.9, 2)),
        (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
        (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
        (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
        (("Equalize", 0.6, 5), ("Equalize", 0.5, 1)),
        (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
        (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
        (("Equalize", 0.3, 7), ("AutoContrast", 0.4, 8)),
        (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
        (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
        (("Solarize", 0.5, 2), ("Invert", 0.0, 3)),
        (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
        (("Equalize", 0.2, 8), ("Equalize", 0.6, 4)),
        (("Color", 0.9, 9), ("Equalize", 0.6, 6)),
        (("AutoContrast", 0.8, 4), ("Solarize", 0.2, 8)),
        (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
        (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 3)),
        (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
        (("AutoContrast", 0.9, 2), ("Solarize", 0.8, 3)),
        (("Equalize", 0.8, 8), ("Invert", 0.1, 3)),
        (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 1)),
    ),
    "imagenet": (
        (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
        (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
        (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
        (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
        (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
        (("Equalize", 0.4, 4), ("Rotate", 0.8, 8)),
        (("Solarize", 0.6, 3), ("Equalize", 0.6, 7)),
        (("Posterize", 0.8, 5), ("Equalize", 1.0, 2)),
        (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
        (("Equalize", 0.6, 8), ("Posterize", 0.4, 6)),
        (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
        (("Rotate", 0.4, 9), ("Equalize", 0.6, 2)),
        (("Equalize", 0.0, 7), ("Equalize", 0.8, 8)),
        (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
        (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
        (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
        (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
        (("Sharpness", 0.4, 7), ("Invert", 0.6, 8)),
        (("ShearX", 0.6, 5), ("Equalize", 1.0, 9)),
        (("Color", 0.4, 0), ("Equalize", 0.6, 3)),
        (("Equalize", 0.4, 7), ("Solarize", 0.2, 4)),
        (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 5)),
        (("Invert", 0.6, 4), ("Equalize", 1.0, 8)),
        (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
        (("Equalize", 0.8, 8), ("Equalize", 0.6, 3)),
    ),
}
"""The paper's 25 pairs of operations for each dataset. A pair is applied in this order."""


class PolicySteps(NamedTuple):
    """Operations that are applied in turn, as arrays. A policy has more axes in front.

    Attributes:
        operation: Position in `OPERATIONS`.
        matrix: Matrix of an affine map, for `resample`.
        magnitude: Magnitude of a color operation.
    """

    operation: Int[Array, "... steps"]
    matrix: Int[Array, "... steps 6"]
    magnitude: Float[Array, "... steps"]


OPERATIONS: tuple[Callable[[Array, PolicySteps], Array], ...] = (
    lambda image, step: image,
    lambda image, step: resample(image, step.matrix),
    *(
        lambda image, step, change=change: change(image, step.magnitude)
        for change in COLOR.values()
    ),
)
"""Functions of an image and its step.

Operation 0 changes nothing, 1 is every affine map, and the operations of `COLOR` follow in order.
"""


def autoaugment(
    key: Key[Array, ""], images: Images, policy: str, first_row: ArrayLike = 0
) -> Images:
    """Apply a random pair of operations of a policy to each image.

    The operation "Color" does not change gray images, which have one channel.

    Args:
        key: Key of the step.
        images: uint8 images with 1 or 3 channels.
        policy: A name in `POLICIES`.
        first_row: Row of the first image in the global batch.

    Returns:
        uint8 images of the same shape.

    Raises:
        ValueError: If there is no such policy, or the images have another dtype or number of
            channels.
    """
    pairs = look_up(POLICIES, "AutoAugment policy", policy)
    if images.dtype != jnp.uint8 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"expected uint8 images with 1 or 3 channels, got {images.dtype} with "
            f"{images.shape[-1]}. AutoAugment works on raw pixels: call it before normalize."
        )
    probabilities = jnp.float32([[step[1] for step in pair] for pair in pairs])
    table = _policy_steps(policy, *images.shape[1:3])

    def draw(row_key: Key[Array, ""]) -> PolicySteps:
        pair_key, apply_key, sign_key = jax.random.split(row_key, 3)
        pair = jax.random.randint(pair_key, (), 0, len(pairs))
        applied = jax.random.uniform(apply_key, (2,), jnp.float32) < probabilities[pair]
        negated = jax.random.bernoulli(sign_key, shape=(2,)).astype(jnp.int32)
        steps = PolicySteps(*(column[pair, jnp.arange(2), negated] for column in table))
        return steps._replace(operation=jnp.where(applied, steps.operation, 0))

    def augment(image: UInt8[Array, "height width channels"], steps: PolicySteps) -> Array:
        for i in range(2):
            step = PolicySteps(*(column[i] for column in steps))
            image = jax.lax.switch(step.operation, OPERATIONS, image, step)
        return image

    return map_images(augment, images, jax.vmap(draw)(image_keys(key, images, first_row)))


def _policy_steps(policy: str, height: int, width: int) -> PolicySteps:
    """Return a policy as arrays over pairs, the steps of a pair, and the sign of affine maps."""
    pairs = POLICIES[policy]
    shape = len(pairs), 2, 2
    operation, matrix = np.zeros(shape, np.int32), np.zeros((*shape, 6), np.int32)
    magnitude = np.zeros(shape, np.float32)
    for at in np.ndindex(shape):
        pair, step, sign = at
        name, _, level = pairs[pair][step]
        amount = MAGNITUDES[name](level)
        if name in AFFINE:
            operation[at] = 1  # each with its matrix
            matrix[at] = fixed_point(AFFINE[name]((1, -1)[sign] * amount, height, width))
        else:
            operation[at] = 2 + list(COLOR).index(name)
            magnitude[at] = amount
    return PolicySteps(jnp.asarray(operation), jnp.asarray(matrix), jnp.asarray(magnitude))
