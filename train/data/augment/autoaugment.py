"""AutoAugment: for each image one of 25 pairs of operations, each done with its own probability.

Source: Cubuk et al., AutoAugment: Learning Augmentation Strategies from Data, CVPR 2019: the
policies of its appendix, the magnitudes of its published code, which are also those of AutoGluon,
with which the authors of Attentional Feature Fusion trained. Pixels are resampled to the nearest,
and grey moves in; AutoGluon shears and translates bicubically, and black moves in. It also has one
level in each policy that is not the paper's: CIFAR's ("Color", 0.2) at 6 and ImageNet's
("Color", 1.0) at 0.
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
from train.data.augment.per_image import Images, each_image, row_keys

__all__ = ["MAGNITUDES", "POLICIES", "autoaugment"]

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
"""Operation -> its magnitude at a level of 0 .. 9.

Shears in pixels a pixel, translations in pixels, rotations in degrees, each either way with
probability 1/2; a threshold, bits to keep, and factors of a blend.
"""

Step = tuple[str, float, int]
"""An operation, its probability and its level."""

POLICIES: dict[str, tuple[tuple[Step, Step], ...]] = {
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
"""The paper's best five policies for a data set, joined: a line a pair, done in this order."""


class Steps(NamedTuple):
    """What is done to one image, an entry a step; or what a policy does, with more axes in front.

    `operation` is a position in `OPERATIONS`; of `matrix` and `magnitude` it takes what it needs.
    """

    operation: Int[Array, "... steps"]
    matrix: Int[Array, "... steps 6"]
    magnitude: Float[Array, "... steps"]


def keep(image: Array, step: Steps) -> Array:
    """The image as it is."""
    del step
    return image


def move(image: Array, step: Steps) -> Array:
    """One of the affine maps."""
    return resample(image, step.matrix)


def recolor(change: Callable[[Array, Array], Array]) -> Callable[[Array, Steps], Array]:
    """One of the operations on colours, as a step."""
    return lambda image, step: change(image, step.magnitude)


# Affine maps are one operation: they differ in their matrices only.
OPERATIONS = (keep, move, *map(recolor, COLOR.values()))


def autoaugment(
    key: Key[Array, ""], images: Images, policy: str, first_row: ArrayLike = 0
) -> Images:
    """Each uint8 image after the two steps of a pair of `POLICIES[policy]`, drawn uniformly.

    Grey images, of one channel, are kept by "Color".

    Raises `ValueError` for a policy that is not in the table, and for images that are not uint8 of
    one or three channels.
    """
    pairs = look_up(POLICIES, "AutoAugment policy", policy)
    if images.dtype != jnp.uint8 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"expected images as uint8 of 1 or 3 channels, got {images.dtype} of "
            f"{images.shape[-1]}. AutoAugment works on raw pixels: call it before normalize."
        )
    probabilities = jnp.float32([[step[1] for step in pair] for pair in pairs])
    table = _steps(policy, *images.shape[1:3])

    def draw(row_key: Key[Array, ""]) -> Steps:
        pair_key, done_key, mirror_key = jax.random.split(row_key, 3)
        pair = jax.random.randint(pair_key, (), 0, len(pairs))
        done = jax.random.uniform(done_key, (2,), jnp.float32) < probabilities[pair]
        mirrored = jax.random.bernoulli(mirror_key, shape=(2,)).astype(jnp.int32)
        steps = Steps(*(column[pair, jnp.arange(2), mirrored] for column in table))
        return steps._replace(operation=jnp.where(done, steps.operation, 0))

    def augment(image: UInt8[Array, "height width channels"], steps: Steps) -> Array:
        for i in range(2):
            step = Steps(*(column[i] for column in steps))
            image = jax.lax.switch(step.operation, OPERATIONS, image, step)
        return image

    return each_image(augment, images, jax.vmap(draw)(row_keys(key, images, first_row)))


def _steps(policy: str, height: int, width: int) -> Steps:
    """A policy as arrays over pairs, the two steps of each, and the two ways of an affine map."""
    pairs = POLICIES[policy]
    shape = len(pairs), 2, 2
    operation, matrix = np.zeros(shape, np.int32), np.zeros((*shape, 6), np.int32)
    magnitude = np.zeros(shape, np.float32)
    for at in np.ndindex(shape):
        pair, step, way = at
        name, _, level = pairs[pair][step]
        amount = MAGNITUDES[name](level)
        if name in AFFINE:
            operation[at] = OPERATIONS.index(move)
            matrix[at] = fixed_point(AFFINE[name]((1, -1)[way] * amount, height, width))
        else:
            operation[at] = len(OPERATIONS) - len(COLOR) + list(COLOR).index(name)
            magnitude[at] = amount
    return Steps(jnp.asarray(operation), jnp.asarray(matrix), jnp.asarray(magnitude))
