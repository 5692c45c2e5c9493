"""Augmentation, against plain NumPy: what may come out, how often, and from which key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.train.data.sources.pictures import pictures, window_offsets
from train.data.augment import augmentation as augment
from train.data.augment.geometry import pad_and_crop, random_flip
from train.data.labels import IGNORE_LABEL
from train.data.sources.datasets import DATASETS


def test_nothing_changes_by_default() -> None:
    images = pictures(4)
    key = augment.augmentation_key(0, 0)
    np.testing.assert_array_equal(augment.Augmentation()(key, images), images)


def test_crop_and_flip_are_drawn_independently() -> None:
    images = pictures(900)
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


def test_labels_of_pixels_move_with_them() -> None:
    images = pictures(200, channels=1)
    labels = images[..., 0].astype(np.int32) % 11
    change = augment.Augmentation(crop_padding=2, flip=True)
    key = augment.augmentation_key(3, 4)
    moved, moved_labels = change(key, images, 5), change.labels(key, labels, 5)
    assert (moved_labels.dtype, moved_labels.shape) == (np.int32, labels.shape)
    # No pixel is zero but those that moved in, and what a pixel shows says what its label is.
    shown = np.asarray(moved)[..., 0]
    assert (shown == 0).any()
    expected = np.where(shown == 0, IGNORE_LABEL, shown.astype(np.int32) % 11)
    np.testing.assert_array_equal(moved_labels, expected)


def test_labels_of_images_stay() -> None:
    labels = np.arange(8, dtype=np.int32)
    change = augment.Augmentation(crop_padding=2, flip=True)
    np.testing.assert_array_equal(change.labels(augment.augmentation_key(0, 0), labels), labels)


def test_crop_and_flip_draw_what_they_drew_when_there_was_nothing_else():
    """Runs from before there were other streams go on as they were."""
    images, key = pictures(64), augment.augmentation_key(3, 4)
    crop_key, flip_key = jax.random.split(key)
    expected = random_flip(flip_key, pad_and_crop(crop_key, images, 2))
    result = augment.Augmentation(crop_padding=2, flip=True)(key, images)
    np.testing.assert_array_equal(result, expected)
    mixing_key = augment.stream(key, "mixing")
    keys = [jax.random.key_data(augment.stream(key, name)).tolist() for name in augment.STREAMS]
    assert len(np.unique(keys, axis=0)) == len(augment.STREAMS)
    assert jax.random.key_data(mixing_key).tolist() == keys[-1]


def test_everything_is_done_in_the_order_of_the_module(monkeypatch):
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
    augment.Augmentation(1, True, "cifar10", 0.4, 0.1, 0.5)(key, pictures(2), 5)
    arguments = [("cifar10", 5), (1, 5, 0), (5,), (0.4, 5), (0.1, 5), (0.5, 5)]
    assert calls == [
        (name, jax.random.key_data(augment.stream(key, name)).tolist(), *rest)
        for name, rest in zip(names, arguments, strict=True)
    ]


def test_randomness_is_a_function_of_seed_and_step() -> None:
    images = pictures(64)
    change = jax.jit(
        lambda seed, step: augment.Augmentation(2, True)(
            augment.augmentation_key(seed, step), images
        )
    )
    results = [np.asarray(change(seed, step)) for seed in (0, 1, 2) for step in (0, 1, 2, 10**6)]
    for one in range(len(results)):
        for other in range(one):
            assert not np.array_equal(results[one], results[other])
    np.testing.assert_array_equal(change(0, 10**6), results[3])


def test_neither_jit_nor_sharing_a_batch_changes_anything() -> None:
    """Sharing is vectorized here, so that every operation is computed, and not the one drawn."""
    images, key = pictures(16), augment.augmentation_key(5, 7)
    few = augment.Augmentation(crop_padding=2, flip=True)
    np.testing.assert_array_equal(jax.jit(few)(key, images), few(key, images))

    change = augment.Augmentation(2, True, "cifar10", 0.4, 0.1, 0.5)
    whole = np.asarray(jax.jit(change)(key, images))

    def on_one_device(part: jax.Array) -> jax.Array:
        return change(key, part, first_row=jax.lax.axis_index("batch") * len(part))

    parts = images.reshape(4, -1, *images.shape[1:])
    shared = jax.jit(jax.vmap(on_one_device, axis_name="batch"))(parts)
    np.testing.assert_array_equal(shared.reshape(whole.shape), whole)
    assert np.mean((whole == images).all((1, 2, 3))) < 0.1


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_normalize_is_its_formula(name: str) -> None:
    row = DATASETS[name]
    images = pictures(3, channels=len(row.mean))
    expected = (images.astype(np.float64) / 255 - row.mean) / row.std
    result = augment.normalize(images, row.mean, row.std)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, rtol=2e-6, atol=2e-6)


def test_normalize_rounds_once_to_a_narrow_type() -> None:
    images = pictures(3, channels=1)
    wide = augment.normalize(images, (0.3,), (0.4,))
    narrow = augment.normalize(images, (0.3,), (0.4,), jnp.bfloat16)
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_array_equal(narrow, wide.astype(jnp.bfloat16))


def test_normalize_computes_in_double_where_asked() -> None:
    with jax.enable_x64(True):
        images = pictures(3, channels=1)
        result = augment.normalize(images, (0.3,), (0.4,), jnp.float64)
        assert result.dtype == jnp.float64
        np.testing.assert_allclose(result, (images / 255.0 - 0.3) / 0.4, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    ("images", "mean", "std", "message"),
    [
        (np.zeros((2, 4, 4, 3), np.float32), (0.5,) * 3, (0.2,) * 3, "got float32. Probably"),
        (pictures(2), (0.5,), (0.2,) * 3, "one mean per channel, so 3"),
        (pictures(2), (0.5,) * 3, (0.2,), "one std per channel, so 3"),
    ],
)
def test_what_normalize_refuses(
    images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        augment.normalize(images, mean, std)
