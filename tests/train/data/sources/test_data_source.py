"""Random access to examples: types, shapes, cache, resizing and error messages."""

import concurrent.futures
import pathlib
import pickle

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.train.data.example_images import encode
from train.data.batch import IGNORED_LABEL
from train.data.sources import data_source
from train.data.sources.data_source import Source
from train.data.sources.datasets import DATASETS
from train.data.sources.encoded_examples import EncodedExample
from train.data.sources.load import load_source, load_splits


def test_examples_match_tfds(digits_dir: pathlib.Path) -> None:
    source = load_source("digits", "test", data_dir=digits_dir)
    expected = tfds.builder("digits", data_dir=digits_dir).as_data_source("test")
    assert len(source) == len(expected) == 360
    for position, (example, record) in enumerate(zip(source, expected, strict=True)):
        assert sorted(example) == ["image", "index", "label"]
        np.testing.assert_array_equal(example["image"], record["image"])
        assert example["label"] == record["label"]
        assert example["index"] == position


def test_types_shapes_and_names(digits_train: Source) -> None:
    example = digits_train[0]
    assert example["image"].shape == digits_train.image_shape == (8, 8, 1)
    dtypes = {key: value.dtype for key, value in example.items()}
    assert dtypes == {"image": np.uint8, "label": np.int32, "index": np.int64}
    assert digits_train.num_classes == 10
    assert digits_train.class_names == tuple("0123456789")


@pytest.mark.parametrize("cache_bytes", [0, 1437 * 64 - 1, 1437 * 64])
def test_cache_changes_nothing(
    digits_dir: pathlib.Path, digits_train: Source, cache_bytes: int
) -> None:
    other = load_source("digits", "train", data_dir=digits_dir, cache_bytes=cache_bytes)
    for position in (0, 700, 700, 1436):
        first, second = digits_train[position], other[position]
        np.testing.assert_array_equal(first["image"], second["image"])
        assert (first["label"], first["index"]) == (second["label"], second["index"])
        # Otherwise, writing to an example would change the cache.
        with pytest.raises(ValueError, match="read-only"):
            second["image"][...] = 0


def test_threads_can_share_a_source(digits_dir: pathlib.Path) -> None:
    shared = load_source("digits", "test", data_dir=digits_dir)
    alone = load_source("digits", "test", data_dir=digits_dir, cache_bytes=0)
    positions = np.random.default_rng(0).integers(0, 20, 400).tolist()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        examples = pool.map(shared.__getitem__, positions)
        for position, example in zip(positions, examples, strict=True):
            np.testing.assert_array_equal(example["image"], alone[position]["image"])


def test_positions_are_those_of_a_sequence(digits_train: Source) -> None:
    assert digits_train[-1]["index"] == 1436
    assert digits_train[np.int64(3)]["index"] == 3
    for position in (1437, -1438):
        with pytest.raises(IndexError):
            digits_train[position]


def test_slice_of_a_split(digits_dir: pathlib.Path) -> None:
    sliced = load_source("digits", "train[10:30]", data_dir=digits_dir)
    whole = load_source("digits", "train", data_dir=digits_dir)
    assert len(sliced) == 20
    np.testing.assert_array_equal(sliced[5]["image"], whole[15]["image"])
    assert sliced[5]["index"] == 5


def test_tilde_is_expanded(digits_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(digits_dir.parent))
    assert len(load_source("digits", "test", data_dir=f"~/{digits_dir.name}")) == 360


def test_source_can_be_pickled(digits_train: Source) -> None:
    example = digits_train[5]
    pickled = pickle.dumps(digits_train)
    assert len(pickled) < 1000  # The cache is not pickled.
    unpickled = pickle.loads(pickled)
    assert len(unpickled) == 1437
    np.testing.assert_equal(unpickled[5], example)


@pytest.mark.parametrize(
    ("name", "label_key", "message"),
    [
        ("digit", "label", "unknown dataset 'digit'. Did you mean 'digits'"),
        ("cifar1000", "label", "'cifar100' or 'cifar10'"),
        ("zzz", "label", f"unknown dataset 'zzz'. Known: {', '.join(sorted(DATASETS))}."),
        (
            "cifar100",
            "coarse_lable",
            "label key of 'cifar100': 'coarse_lable'. Did you mean 'coarse_label'",
        ),
        ("digits", "index", "unknown label key of 'digits': 'index'. Known: label."),
    ],
)
def test_unknown_names_are_rejected(
    name: str, label_key: str, message: str, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(ValueError) as error:
        load_source(name, "train", label_key=label_key, data_dir=tmp_path)
    assert message in str(error.value)
    assert not any(tmp_path.iterdir())


def test_unknown_split_is_rejected(digits_dir: pathlib.Path) -> None:
    with pytest.raises(ValueError, match=r"Unknown split 'validation'.*'train', 'test'"):
        load_source("digits", "validation", data_dir=digits_dir)


def replace_masks(scenes: Source, mask: np.ndarray) -> None:
    """Replace the masks of all examples with one mask."""

    class Replaced(type(scenes._encoded)):  # type: ignore[misc]
        def __getitem__(self, position: int) -> EncodedExample:
            return super().__getitem__(position)._replace(label=encode(mask))

    scenes._encoded.__class__ = Replaced


@pytest.mark.parametrize("cache_bytes", [0, 200 * 2 * 64 * 64 - 1, 200 * 2 * 64 * 64])
@pytest.mark.slow
def test_masks_match_tfds(digits_dir: pathlib.Path, cache_bytes: int) -> None:
    source = load_source(
        "digit_scenes", "test", data_dir=digits_dir, label_key="mask", cache_bytes=cache_bytes
    )
    expected = tfds.builder("digit_scenes", data_dir=digits_dir).as_data_source("test")
    assert (source.num_classes, source.class_names[:3]) == (11, ("background", "0", "1"))
    for position in (0, 199, 0):
        label = source[position]["label"]
        assert (label.dtype, label.shape) == (np.int32, source.label_shape)
        np.testing.assert_array_equal(label, expected[position]["mask"][..., 0])
        np.testing.assert_array_equal(source[position]["image"], expected[position]["image"])


@pytest.mark.parametrize("cache_bytes", [0, 2**28])
def test_ignored_pixels_have_the_ignore_label(digits_dir: pathlib.Path, cache_bytes: int) -> None:
    scenes = load_source(
        "digit_scenes", "test", data_dir=digits_dir, label_key="mask", cache_bytes=cache_bytes
    )
    mask = np.zeros((64, 64), np.uint8)
    mask[3, 4], mask[5, 6] = 255, 10
    replace_masks(scenes, mask)
    for label in (scenes[7]["label"], scenes[7]["label"]):  # first read, then cached
        assert (label[3, 4], label[5, 6], label[0, 0]) == (IGNORED_LABEL, 10, 0)


def test_error_of_a_mask_names_its_example(digits_dir: pathlib.Path) -> None:
    scenes = load_source("digit_scenes", "test", data_dir=digits_dir, label_key="mask")
    replace_masks(scenes, np.full((64, 64), 11, np.uint8))
    with pytest.raises(ValueError, match=r"got \[11\] in example 7 of digit_scenes test"):
        scenes[7]


def test_default_label_key_is_the_first(digits_dir: pathlib.Path) -> None:
    assert load_source("digit_scenes", "test", data_dir=digits_dir).label_shape == (64, 64)


def test_images_and_masks_are_resized(digits_dir: pathlib.Path) -> None:
    whole = load_source("digit_scenes", "test", data_dir=digits_dir)
    small = load_source("digit_scenes", "test", data_dir=digits_dir, image_size=(32, 32))
    assert (small.image_shape, small.label_shape) == ((32, 32, 1), (32, 32))
    example = small[3]
    assert (example["image"].shape, example["label"].shape) == ((32, 32, 1), (32, 32))
    # The size is halved and nothing is cropped, because border pixels have labels too.
    image = whole[3]["image"][..., 0].reshape(32, 2, 32, 2)
    # The antialiasing filter is wider than two pixels, so the images are only similar.
    correlation = np.corrcoef(example["image"].ravel(), image.mean((1, 3)).ravel())[0, 1]
    assert correlation > 0.95
    candidates = whole[3]["label"].reshape(32, 2, 32, 2)
    assert np.all((candidates == example["label"][:, None, :, None]).any((1, 3)))


def test_images_of_the_right_size_do_not_change(digits_dir: pathlib.Path) -> None:
    for name, size in (("digits", 8), ("digit_scenes", 64)):
        plain = load_source(name, "test", data_dir=digits_dir)[3]
        sized = load_source(name, "test", data_dir=digits_dir, image_size=(size, size))[3]
        for field in ("image", "label"):
            np.testing.assert_array_equal(sized[field], plain[field])


def test_random_crops_of_image_and_mask_agree(digits_dir: pathlib.Path) -> None:
    scenes = load_source("digit_scenes", "test", data_dir=digits_dir, image_size=(32, 32))
    image, _ = scenes.decode(3)
    # Use the image as its own mask, so the crops agree for every box.
    gray = image.point(lambda value: value // 16)
    scenes.decode = lambda position: (gray, gray)  # type: ignore[method-assign]
    crop = scenes.random_crop(3, np.random.default_rng(0))
    assert crop["image"].shape == (32, 32, 1)
    assert (crop["label"].shape, crop["label"].dtype) == ((32, 32), np.int32)
    correlation = np.corrcoef(crop["image"].ravel(), crop["label"].ravel())[0, 1]
    assert correlation > 0.8  # bilinear and nearest resampling of noise


def test_crop_of_the_final_size_is_not_resized(
    digits_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenes = load_source("digit_scenes", "test", data_dir=digits_dir, image_size=(16, 24))
    monkeypatch.setattr(data_source, "random_box", lambda *_: (5, 2, 29, 18))
    crop = scenes.random_crop(3, np.random.default_rng(0))
    whole, mask = map(np.asarray, scenes.decode(3))
    np.testing.assert_array_equal(crop["image"][..., 0], whole[2:18, 5:29])
    np.testing.assert_array_equal(crop["label"], mask[2:18, 5:29])


@pytest.mark.parametrize(("channels", "mean"), [(1, (0.3058,)), (3, (0.485, 0.456, 0.406))])
def test_images_are_converted_to_gray_or_color(
    digits_dir: pathlib.Path, channels: int, mean: tuple[float, ...]
) -> None:
    plain = load_source("digits", "test", data_dir=digits_dir)
    other = load_source("digits", "test", data_dir=digits_dir, image_channels=channels)
    assert other.image_shape == (8, 8, channels)
    # The dataset's own statistics are used if they have this number of channels.
    assert other.mean == mean
    assert len(other.std) == channels
    np.testing.assert_array_equal(other[5]["image"], plain[5]["image"].repeat(channels, -1))


def test_two_channels_are_rejected(digits_dir: pathlib.Path) -> None:
    with pytest.raises(ValueError, match="image_channels of 0, 1 or 3, got 2"):
        load_source("digits", "test", data_dir=digits_dir, image_channels=2)


def test_load_splits_loads_both_splits(digits_dir: pathlib.Path) -> None:
    train, evaluation = load_splits("digits", data_dir=digits_dir, image_size=(7, 7))
    assert (len(train), len(evaluation)) == (1437, 360)
    assert train.image_shape == evaluation.image_shape == (7, 7, 1)


def test_decode_does_not_resize(digits_dir: pathlib.Path) -> None:
    scenes = load_source("digit_scenes", "test", data_dir=digits_dir, image_size=(28, 28))
    image, mask = scenes.decode(0)
    assert image.size == mask.size == (64, 64)
