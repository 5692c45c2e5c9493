"""The images and targets of a training step: augmented, mixed and normalized."""

import functools

import jax
import numpy as np
import pytest

from configs import base
from tests.train.data.example_images import write_image
from train.data.augment.augmentation import Augmentation, augmentation_key, normalize
from train.data.epochs import Epochs
from train.data.pipeline import (
    make_augment,
    open_split,
    open_splits,
    parse_ignored_values,
    parse_image_size,
)
from train.steps import parallel

normalize_digits = functools.partial(normalize, mean=(0.3,), std=(0.4,))


class Source:
    """The attributes of a source that `make_augment` reads."""

    def __init__(self, label_shape=(), channels=1):
        self.image_shape, self.label_shape, self.num_classes = (8, 8, channels), label_shape, 10


def training_examples(source=None, epochs=4.0, **fields):
    config = base.get_config()
    config.update(epochs=epochs, **fields)
    return make_augment(
        config, source or Source(), Epochs(160, 16, epochs), normalize_digits, parallel.AXIS
    )


RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (16, 8, 8, 1)).astype(np.uint8)
LABELS = RNG.integers(0, 10, 16).astype(np.int32)


def on_devices(examples, devices):
    """Return a function of the step that computes a batch on that many devices."""

    def device_examples(images, labels, step):
        first_row = jax.lax.axis_index(parallel.AXIS) * len(labels)
        return examples(images, labels, step, first_row)

    mapped = jax.pmap(
        device_examples, parallel.AXIS, in_axes=(0, 0, None), devices=jax.devices()[:devices]
    )
    batch = [x.reshape(devices, -1, *x.shape[1:]) for x in (IMAGES, LABELS)]
    return lambda step: [np.asarray(x).reshape(16, *x.shape[2:]) for x in mapped(*batch, step)]


CROP_AND_FLIP = {"crop_padding": 1, "flip": True}
MIX = {"mixup_alpha": 1.0, "label_smoothing": 0.1, "mix_off_epochs": 1.5}


@pytest.fixture(scope="module")
def plain():
    """Examples that are cropped and flipped, on one device."""
    return on_devices(training_examples(**CROP_AND_FLIP), 1)


@pytest.fixture(scope="module")
def mixed():
    """Examples that are cropped, flipped and mixed, on one device."""
    return on_devices(training_examples(**CROP_AND_FLIP, **MIX), 1)


def test_examples_are_cropped_flipped_and_normalized(plain):
    images, targets = plain(3)
    augment = Augmentation(**CROP_AND_FLIP)
    # Compile it as well: running operation by operation rounds the last bit differently.
    expected = jax.jit(lambda raw: normalize_digits(augment(augmentation_key(0, 3), raw)))(IMAGES)
    np.testing.assert_array_equal(images, expected)
    assert targets.dtype == np.int32
    np.testing.assert_array_equal(targets, LABELS)


def check_devices(one, eight):
    for expected, result in zip(one, eight, strict=True):
        np.testing.assert_array_equal(result, expected)
    images, targets = one
    assert images.dtype == targets.dtype == np.float32
    np.testing.assert_allclose(targets.sum(1), 1, atol=1e-6)


def test_examples_do_not_depend_on_the_number_of_devices(mixed):
    """The results are bitwise identical for gray images."""
    check_devices(mixed(0), on_devices(training_examples(**CROP_AND_FLIP, **MIX), 8)(0))


@pytest.mark.slow
def test_autoaugment_does_not_depend_on_the_number_of_devices():
    examples = training_examples(autoaugment="cifar10", **CROP_AND_FLIP, **MIX)
    check_devices(*(on_devices(examples, devices)(0) for devices in (1, 8)))


def test_mixing_stops_before_the_last_epochs(plain, mixed):
    """An epoch has ten steps: the last 1.5 epochs of four are the last 15 steps of 40."""
    smoothed = 0.9 * np.eye(10)[LABELS] + 0.1 / 10
    for step, is_mixed in ((0, True), (24, True), (25, False), (39, False)):
        images, targets = mixed(step)
        assert np.allclose(images, plain(step)[0], atol=1e-5) != is_mixed
        assert np.allclose(targets, smoothed, atol=1e-6) != is_mixed


@pytest.mark.parametrize(
    ("fields", "given"),
    [
        ({"mixup_alpha": 1.0, "label_smoothing": 0.1}, "mixup_alpha, label_smoothing"),
        ({"autoaugment": "cifar10"}, "autoaugment"),
        ({"cutmix_alpha": 1.0, "random_erasing": 0.5}, "random_erasing, cutmix_alpha"),
    ],
)
def test_augmentation_that_masks_do_not_support_is_rejected(fields, given):
    with pytest.raises(ValueError, match=f"supports labels of pixels .* got {given}, which are"):
        training_examples(Source(label_shape=(8, 8)), **fields)
    training_examples(Source(label_shape=(8, 8)), color_jitter=0.4)


def test_augmentation_that_images_do_not_support_is_rejected_before_training():
    with pytest.raises(ValueError, match="unknown AutoAugment policy 'cifar100'"):
        training_examples(autoaugment="cifar100")
    with pytest.raises(ValueError, match="3 channels, red, green and blue"):
        training_examples(pca_lighting=0.1)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, None), ((0, 0), None), (224, (224, 224)), ((240, 320), (240, 320)), ([2, 3], (2, 3))],
)
def test_image_size_is_a_number_or_height_and_width(value, expected):
    assert parse_image_size(value) == expected


@pytest.mark.parametrize("value", [-1, (3,), (0, 4), (1.5, 2), "240x320", None, True, (2, 2, 2)])
def test_other_image_sizes_are_refused(value):
    with pytest.raises(ValueError, match="expected an image_size in pixels"):
        parse_image_size(value)


@pytest.mark.parametrize(
    ("value", "expected"), [((), ()), (0, (0,)), (11, (11,)), ((0, 11), (0, 11)), ([3], (3,))]
)
def test_ignored_values_are_one_value_or_several(value, expected):
    assert parse_ignored_values(value) == expected


@pytest.mark.parametrize("value", [-1, "void", None, (1.5,), True, ((1, 2),)])
def test_other_ignored_values_are_refused(value):
    with pytest.raises(ValueError, match=r"expected ignored_values to be a value of masks"):
        parse_ignored_values(value)


def test_fields_of_a_config_open_its_splits(tmp_path):
    for split in ("train", "val"):
        write_image(tmp_path / split / "images" / "a.png", np.zeros((8, 8), np.uint8))
        mask = np.arange(64).reshape(8, 8) % 4
        write_image(tmp_path / split / "masks" / "a.png", mask.astype(np.uint8))
    (tmp_path / "classes.txt").write_text("sky\nroad\ntree\nhouse\n")
    config = base.get_config()
    config.update(dataset="mask_folder", data_dir=str(tmp_path), image_size=4, ignored_values=3)
    names = ("sky", "road", "tree")
    for source in (*open_splits(config, names), open_split(config, "validation", names)):
        assert source.class_names == names
    with pytest.raises(ValueError, match="'road' was class 0 and is class 1"):
        open_splits(config, ("road", "sky", "tree"))
