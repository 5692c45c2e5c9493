"""AutoAugment against Pillow: which images come out, and how often."""

import collections
import itertools

import jax
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from tests.train.data.sources.pictures import scenes
from train.data.augment import autoaugment
from train.data.augment.augmentation import augmentation_key


def affine(*matrix):
    return lambda image: image.transform(
        image.size, Image.Transform.AFFINE, matrix, fillcolor=(128,) * len(image.getbands())
    )


def enhance(name, level):
    return [lambda image: getattr(ImageEnhance, name)(image).enhance(0.1 + 1.8 * level / 10)]


# What an operation may do at a level, each equally often; as the published code has it.
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
    """Every image that a policy may make of one, and its probability."""
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


@pytest.mark.parametrize("policy", autoaugment.POLICIES)
def test_every_outcome_of_the_policy_comes_as_often_as_it_should(policy):
    count = 3000
    image = scenes((14, 21, 3))[7]
    expected, probabilities = outcomes(image, policy)
    assert probabilities.sum() == pytest.approx(1)
    augment = jax.jit(autoaugment.autoaugment, static_argnums=2)
    result = augment(augmentation_key(0, 0), np.repeat(image[None], count, axis=0), policy)
    assert result.dtype == np.uint8
    results, counts = np.unique(np.asarray(result), axis=0, return_counts=True)
    distances = np.abs(results[:, None].astype(int) - expected).mean((2, 3, 4))
    # A level more or less in a few pixels, where Pillow and XLA round in different ways; what is
    # equalized afterwards may show that by some levels more.
    assert distances.min(1).max() < 0.5
    observed = np.bincount(distances.argmin(1), counts, minlength=len(expected))
    deviations = np.sqrt(count * probabilities * (1 - probabilities))
    # Rare outcomes are not normal: of those with an expected count below 1, up to 7 may come.
    assert np.all(np.abs(observed - count * probabilities) < np.maximum(5 * deviations, 7))


@pytest.mark.parametrize("policy", autoaugment.POLICIES)
def test_a_policy_has_25_pairs_with_probabilities_and_levels_in_tenths(policy):
    pairs = autoaugment.POLICIES[policy]
    assert [len(pair) for pair in pairs] == 25 * [2]
    for name, probability, level in itertools.chain(*pairs):
        assert name in autoaugment.MAGNITUDES
        assert probability in np.arange(11) / 10 or probability == pytest.approx(0.3, abs=1e-9)
        assert level in range(10)


def test_operations_are_those_of_the_magnitudes():
    assert len(autoaugment.OPERATIONS) == 2 + len(autoaugment.COLOR)
    assert {*autoaugment.AFFINE, *autoaugment.COLOR} == set(autoaugment.MAGNITUDES) == set(PILLOW)


def test_what_is_refused():
    key, images = augmentation_key(0, 0), scenes((4, 4, 3))
    with pytest.raises(ValueError, match="unknown AutoAugment policy 'cifar'"):
        autoaugment.autoaugment(key, images, "cifar")
    with pytest.raises(ValueError, match="uint8 of 1 or 3 channels, got float32"):
        autoaugment.autoaugment(key, np.float32(images), "cifar10")
    with pytest.raises(ValueError, match="got uint8 of 2"):
        autoaugment.autoaugment(key, images[..., :2], "cifar10")
