"""Augmentation against NumPy: possible results, their frequencies, and the keys they use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.data.example_images import random_images, window_offsets
from train.data.augment import augmentation as augment
from train.data.augment.crop import pad_and_crop
from train.data.augment.geometry import random_flip
from train.data.batch import IGNORED_LABEL
from train.data.sources.datasets import DATASETS


def test_default_changes_nothing() -> None:
    images = random_images(4)
    key = augment.augmentation_key(0, 0)
    np.testing.assert_array_equal(augment.Augmentation()(key, images), images)


def test_crop_and_flip_are_independent() -> None:
    images = random_images(900)
    both = jax.jit(augment.Augmentation(crop_padding=1, flip=True))
    outcomes = np.zeros((2, 3, 3))
    for original, result in zip(
        images, np.asarray(both(augment.augmentation_key(0, 0), images)), strict=True
    ):
        straight = window_offsets(original, result, 1)
        mirrored = window_offsets(original, result[:, ::-1], 1)
        assert len(straight) + len(mirrored) == 1
        outcomes[int(bool(mirrored))][(straight + mirrored)[0]] += 1
    assert np.all(abs(outcomes - 50) < 6 * 50**0.5)


def test_labels_of_pixels_follow_the_images() -> None:
    images = random_images(200, channels=1)
    labels = images[..., 0].astype(np.int32) % 11
    change = augment.Augmentation(crop_padding=2, flip=True)

    @jax.jit
    def both(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return change(key, images, 5), change.labels(key, labels, 5)

    moved, moved_labels = both(augment.augmentation_key(3, 4))
    assert (moved_labels.dtype, moved_labels.shape) == (np.int32, labels.shape)
    # Only padding is 0, and a pixel's label is a function of its value.
    shown = np.asarray(moved)[..., 0]
    assert (shown == 0).any()
    expected = np.where(shown == 0, IGNORED_LABEL, shown.astype(np.int32) % 11)
    np.testing.assert_array_equal(moved_labels, expected)


def test_labels_of_images_do_not_change() -> None:
    labels = np.arange(8, dtype=np.int32)
    change = augment.Augmentation(crop_padding=2, flip=True)
    np.testing.assert_array_equal(change.labels(augment.augmentation_key(0, 0), labels), labels)


# Compiled once for several tests.
crop_and_flip = jax.jit(augment.Augmentation(crop_padding=2, flip=True))


def test_crop_and_flip_use_the_first_two_keys_and_jit_changes_nothing():
    """Runs that started before there were other streams resume with the same augmentation."""
    images, key = random_images(64), augment.augmentation_key(3, 4)
    crop_key, flip_key = jax.random.split(key)
    expected = random_flip(flip_key, pad_and_crop(crop_key, images, 2))
    np.testing.assert_array_equal(crop_and_flip(key, images), expected)


def test_every_stream_has_its_own_key():
    key = augment.augmentation_key(3, 4)
    keys = [jax.random.key_data(augment.stream_key(key, name)) for name in augment.STREAMS]
    assert len(np.unique(keys, axis=0)) == len(augment.STREAMS)


def test_randomness_is_a_function_of_seed_and_step() -> None:
    images = random_images(64)
    keys = [augment.augmentation_key(seed, step) for seed in (0, 1, 2) for step in (0, 1, 2, 10**6)]
    results = [np.asarray(crop_and_flip(key, images)) for key in keys]
    for one in range(len(results)):
        for other in range(one):
            assert not np.array_equal(results[one], results[other])
    again = crop_and_flip(augment.augmentation_key(0, 10**6), images)
    np.testing.assert_array_equal(again, results[3])


def test_operations_have_the_documented_order(monkeypatch):
    calls = []

    def record(name):
        def change(key, images, *arguments):
            calls.append((name, jax.random.key_data(key).tolist(), *arguments))
            return images

        return change

    names = ["autoaugment", "crop", "flip", "color_jitter", "pca_lighting", "random_erasing"]
    functions = {"crop": "pad_and_crop", "flip": "random_flip"}
    for name in names:
        monkeypatch.setattr(augment, functions.get(name, name), record(name))
    key = augment.augmentation_key(3, 4)
    augment.Augmentation(1, True, "cifar10", 0.4, 0.1, 0.5)(key, random_images(2), 5)
    arguments = [("cifar10", 5), (1, 5, 0), (5,), (0.4, 5), (0.1, 5), (0.5, 5)]
    assert calls == [
        (name, jax.random.key_data(augment.stream_key(key, name)).tolist(), *rest)
        for name, rest in zip(names, arguments, strict=True)
    ]


def test_an_image_depends_on_its_row_and_not_on_its_batch() -> None:
    images, key = random_images(16), augment.augmentation_key(5, 7)
    change = jax.jit(augment.Augmentation(2, True, "", 0.0, 0.1, 0.5))
    halves = [change(key, images[row : row + 8], row) for row in (0, 8)]
    np.testing.assert_array_equal(change(key, images[4:12], 4), np.concatenate(halves)[4:12])


@pytest.mark.slow
def test_splitting_a_batch_changes_nothing() -> None:
    """Splitting uses `vmap` here, so every operation is computed and one is selected."""
    images, key = random_images(16), augment.augmentation_key(5, 7)
    change = augment.Augmentation(2, True, "cifar10", 0.4, 0.1, 0.5)
    whole = np.asarray(jax.jit(change)(key, images))

    def on_one_device(block: jax.Array) -> jax.Array:
        return change(key, block, first_row=jax.lax.axis_index("batch") * len(block))

    blocks = images.reshape(4, -1, *images.shape[1:])
    split = jax.jit(jax.vmap(on_one_device, axis_name="batch"))(blocks)
    np.testing.assert_array_equal(split.reshape(whole.shape), whole)
    assert np.mean((whole == images).all((1, 2, 3))) < 0.1


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_normalize_matches_its_formula(name: str) -> None:
    row = DATASETS[name]
    images = random_images(3, channels=len(row.mean))
    expected = (images.astype(np.float64) / 255 - row.mean) / row.std
    result = augment.normalize(images, row.mean, row.std)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, rtol=2e-6, atol=2e-6)


def test_normalize_rounds_to_a_narrow_dtype_once() -> None:
    images = random_images(3, channels=1)
    wide = augment.normalize(images, (0.3,), (0.4,))
    narrow = augment.normalize(images, (0.3,), (0.4,), jnp.bfloat16)
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_array_equal(narrow, wide.astype(jnp.bfloat16))


def test_normalize_computes_in_float64() -> None:
    with jax.enable_x64(True):
        images = random_images(3, channels=1)
        result = augment.normalize(images, (0.3,), (0.4,), jnp.float64)
        assert result.dtype == jnp.float64
        np.testing.assert_allclose(result, (images / 255.0 - 0.3) / 0.4, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    ("images", "mean", "std", "message"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), (0.5,) * 3, (0.2,) * 3, "got float32. Probably"),
        (random_images(2), (0.5,), (0.2,) * 3, "one mean per channel, so 3"),
        (random_images(2), (0.5,) * 3, (0.2,), "one std per channel, so 3"),
    ],
)
def test_normalize_rejects_wrong_arguments(
    images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        augment.normalize(images, mean, std)
