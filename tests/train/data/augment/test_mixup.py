"""Mixup and CutMix against their formulas in NumPy, and one device against several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.data.augment import mixup
from train.data.augment.augmentation import augmentation_key, normalize


def batch(count=16, classes=5):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 6, 8, 3)).astype(np.uint8)
    return images, rng.integers(0, classes, count).astype(np.int32)


def one_hot(labels, smoothing=0.0, classes=5):
    return (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes


def test_default_changes_nothing():
    images, labels = batch()
    same, targets = mixup.Mixup(5)(augmentation_key(0, 0), images, labels)
    assert same is images
    assert targets is labels


def test_label_smoothing_matches_its_formula():
    images, labels = batch()
    same, targets = mixup.Mixup(5, label_smoothing=0.1)(augmentation_key(0, 0), images, labels)
    assert same is images
    assert targets.dtype == jnp.float32
    # One is computed in float32, the other in float64.
    np.testing.assert_allclose(targets, one_hot(labels, 0.1), atol=1e-6)


# Compiled once for several tests. Images are mixed up to step 6.
mixup_until_step_6 = jax.jit(mixup.Mixup(5, mixup_alpha=1.0, label_smoothing=0.1, stop=7))


def mixup_weight(images, mixed):
    """Return the weight of a batch. It is a multiple of 2^-16."""
    first, other = images.astype(float), images[::-1].astype(float)
    weight = float((mixed - other)[0, 0, 0, 0] / (first - other)[0, 0, 0, 0])
    assert 0.01 < weight < 0.99
    return np.round(weight * 2**16) / 2**16


def test_mixup_matches_its_formula_with_the_reversed_batch():
    images, labels = batch()
    mixed, targets = mixup_until_step_6(augmentation_key(0, 0), images, labels, 0)
    assert (mixed.dtype, targets.dtype) == (np.float32, np.float32)
    weight = mixup_weight(images, mixed)
    # The result is exact: a weight has 16 bits and a pixel 8, and float32 has 24.
    expected = weight * images.astype(float) + (1 - weight) * images[::-1].astype(float)
    np.testing.assert_array_equal(mixed, expected)
    expected = weight * one_hot(labels, 0.1) + (1 - weight) * one_hot(labels[::-1], 0.1)
    np.testing.assert_allclose(targets, expected, atol=1e-6)
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)


def test_mixing_commutes_with_normalization():
    images, labels = batch()
    mixed, _ = mixup_until_step_6(augmentation_key(0, 0), images, labels, 0)
    weight = mixup_weight(images, mixed)
    statistics = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    own = normalize(images, *statistics)
    np.testing.assert_allclose(
        normalize(mixed, *statistics, mixed=True),
        weight * own + (1 - weight) * own[::-1],
        atol=1e-5,
    )


def test_cutmix_replaces_a_rectangle():
    images, labels = batch()
    mixing = jax.jit(mixup.Mixup(5, cutmix_alpha=1.0))
    shares = []
    for step in range(40):
        mixed, targets = map(np.asarray, mixing(augmentation_key(0, step), images, labels))
        # The same rectangle is replaced in all images and channels.
        cut = (mixed != images).any((0, 3))
        np.testing.assert_array_equal(
            mixed, np.where(cut[:, :, None], images[::-1], images).astype(np.float32)
        )
        rows, columns = cut.any(1), cut.any(0)
        np.testing.assert_array_equal(cut, rows[:, None] & columns)
        for side in (rows, columns):
            assert np.abs(np.diff(side.astype(int))).sum() <= 2
        share = 1 - cut.mean()
        expected = share * one_hot(labels) + (1 - share) * one_hot(labels[::-1])
        np.testing.assert_allclose(targets, expected, atol=1e-6)
        shares.append(share)
    assert min(shares) < 0.4
    assert max(shares) > 0.9


@pytest.mark.slow
def test_with_both_each_batch_uses_one_of_them():
    images, labels = batch()
    mixing = jax.jit(mixup.Mixup(5, mixup_alpha=1.0, cutmix_alpha=1.0))
    mixed = [
        np.asarray(mixing(augmentation_key(0, step), images, labels)[0]) for step in range(100)
    ]
    cut = [np.all((x == images) | (x == images[::-1])) for x in mixed]
    assert 25 < sum(cut) < 75  # five standard deviations of 100 tosses


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 4.0])
def test_weights_are_beta_distributed(alpha):
    draw = jax.jit(mixup.symmetric_beta, static_argnums=2)  # one compilation for all alphas
    weights = np.asarray(draw(jax.random.key(0), alpha, (20_000,)))
    assert weights.dtype == np.float32
    assert np.all((weights >= 0) & (weights <= 1))
    # The mean is 1/2 and the variance is 1 / (4 (2 alpha + 1)). The standard deviation is at most
    # 1/2, and that of the squared distance from the mean at most 1/4. Five standard errors.
    assert abs(weights.mean() - 0.5) < 5 * 0.5 / 20_000**0.5
    assert abs(weights.var() - 1 / (4 * (2 * alpha + 1))) < 5 * 0.25 / 20_000**0.5
    if alpha == 1:  # uniform: Kolmogorov-Smirnov distance, below 1.95 / sqrt(n) in 99.9 % of cases
        assert np.abs(np.sort(weights) - np.linspace(0, 1, 20_000)).max() < 1.95 / 20_000**0.5


def test_mixing_stops_at_its_step():
    images, labels = batch()
    key = augmentation_key(0, 0)
    mixed, _ = mixup_until_step_6(key, images, labels, 6)
    assert not np.array_equal(mixed, images)
    for step in (7, 8):
        same, targets = mixup_until_step_6(key, images, labels, step)
        np.testing.assert_array_equal(same, images)
        np.testing.assert_allclose(targets, one_hot(labels, 0.1), atol=1e-6)


@pytest.mark.slow
def test_result_does_not_depend_on_the_number_of_devices():
    images, labels = batch(count=16)
    mixing, key = mixup.Mixup(5, mixup_alpha=1.0, label_smoothing=0.1), augmentation_key(0, 0)
    whole, whole_targets = mixup_until_step_6(key, images, labels, 0)
    for devices in (2, 8):
        on_devices = jax.pmap(
            lambda images, labels: mixing(key, images, labels, 0, "batch"),
            "batch",
            devices=jax.devices()[:devices],
        )
        blocks = [x.reshape(devices, -1, *x.shape[1:]) for x in (images, labels)]
        mixed, targets = on_devices(*blocks)
        np.testing.assert_array_equal(mixed.reshape(whole.shape), whole)
        np.testing.assert_array_equal(targets.reshape(whole_targets.shape), whole_targets)
