"""AutoAugment against Pillow: possible results and their frequencies."""

import collections
import itertools

import jax
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from tests.train.data.example_images import varied_images
from train.data.augment import autoaugment
from train.data.augment.augmentation import augmentation_key


def affine(*matrix):
    return lambda image: image.transform(
        image.size, Image.Transform.AFFINE, matrix, fillcolor=(128,) * len(image.getbands())
    )


def enhance(name, level):
    return [lambda image: getattr(ImageEnhance, name)(image).enhance(0.1 + 1.8 * level / 10)]


# Possible results of an operation at a level, with equal probability, as in the published code.
PILLOW = {
    "ShearX": lambda level: [affine(1, s * 0.3 * level / 10, 0, 0, 1, 0) for s in (1, -1)],
    "ShearY": lambda level: [affine(1, 0, 0, s * 0.3 * level / 10, 1, 0) for s in (1, -1)],
    "TranslateX": lambda level: [affine(1, 0, s * level, 0, 1, 0) for s in (1, -1)],
    "TranslateY": lambda level: [affine(1, 0, 0, 0, 1, s * level) for s in (1, -1)],
    "Rotate": lambda level: [
        lambda image, s=s: image.rotate(
            s * int(30 * level / 10), fillcolor=(128,) * len(image.getbands())
        )
        for s in (1, -1)
    ],
    "AutoContrast": lambda level: [ImageOps.autocontrast],
    "Invert": lambda level: [ImageOps.invert],
    "Equalize": lambda level: [ImageOps.equalize],
    "Solarize": lambda level: [lambda image: ImageOps.solarize(image, 256 - int(25.6 * level))],
    "Posterize": lambda level: [lambda image: ImageOps.posterize(image, 4 - int(4 * level / 10))],
    "Contrast": lambda level: enhance("Contrast", level),
    "Color": lambda level: enhance("Color", level),
    "Brightness": lambda level: enhance("Brightness", level),
    "Sharpness": lambda level: enhance("Sharpness", level),
}


def outcomes(image, policy):
    """Return every possible result of a policy for one image, and its probability."""
    picture = Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])
    found = collections.Counter()
    for pair in autoaugment.POLICIES[policy]:
        ways = []
        for name, probability, level in pair:
            changes = PILLOW[name](level)
            kept = [(lambda image: image, 1 - probability)]
            ways.append(kept + [(change, probability / len(changes)) for change in changes])
        for (first, often), (second, as_often) in itertools.product(*ways):
            result = np.asarray(second(first(picture))).reshape(image.shape)
            found[result.tobytes()] += often * as_often / len(autoaugment.POLICIES[policy])
    images = np.stack([np.frombuffer(key, np.uint8).reshape(image.shape) for key in found])
    return images, np.array(list(found.values()))


@pytest.mark.parametrize("policy", ["cifar10", pytest.param("imagenet", marks=pytest.mark.slow)])
def test_results_have_the_probabilities_of_the_policy(policy):
    count = 3000
    image = varied_images((14, 21, 3))[7]
    expected, probabilities = outcomes(image, policy)
    assert probabilities.sum() == pytest.approx(1)
    augment = jax.jit(autoaugment.autoaugment, static_argnums=2)
    result = augment(augmentation_key(0, 0), np.repeat(image[None], count, axis=0), policy)
    assert result.dtype == np.uint8
    results, counts = np.unique(np.asarray(result), axis=0, return_counts=True)
    distances = np.abs(results[:, None].astype(int) - expected).mean((2, 3, 4))
    # A few pixels differ by 1, where Pillow and XLA round differently. Equalizing can enlarge this.
    assert distances.min(1).max() < 0.5
    observed = np.bincount(distances.argmin(1), counts, minlength=len(expected))
    deviations = np.sqrt(count * probabilities * (1 - probabilities))
    # Counts of rare results are not normally distributed: up to 7 if less than 1 is expected.
    assert np.all(np.abs(observed - count * probabilities) < np.maximum(5 * deviations, 7))


@pytest.mark.parametrize("policy", autoaugment.POLICIES)
def test_a_policy_has_25_pairs_with_probabilities_and_levels_in_tenths(policy):
    pairs = autoaugment.POLICIES[policy]
    assert [len(pair) for pair in pairs] == 25 * [2]
    for name, probability, level in itertools.chain(*pairs):
        assert name in autoaugment.MAGNITUDES
        assert probability in np.arange(11) / 10 or probability == pytest.approx(0.3, abs=1e-9)
        assert level in range(10)


def test_operations_and_magnitudes_have_the_same_names():
    assert len(autoaugment.OPERATIONS) == 2 + len(autoaugment.COLOR)
    assert {*autoaugment.AFFINE, *autoaugment.COLOR} == set(autoaugment.MAGNITUDES) == set(PILLOW)


def test_wrong_arguments_are_rejected():
    key, images = augmentation_key(0, 0), varied_images((4, 4, 3))
    with pytest.raises(ValueError, match="unknown AutoAugment policy 'cifar'"):
        autoaugment.autoaugment(key, images, "cifar")
    with pytest.raises(ValueError, match="uint8 images with 1 or 3 channels, got float32"):
        autoaugment.autoaugment(key, np.float32(images), "cifar10")
    with pytest.raises(ValueError, match="got uint8 with 2"):
        autoaugment.autoaugment(key, images[..., :2], "cifar10")
