"""The preprocessing of a network against NumPy in float64, and its errors."""

import json
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

from aff_jax.images import ImageTask
from aff_jax.images.class_colors import DISTINCT_COLORS
from aff_jax.images.image_task import RESIZE_NAMES
from aff_jax.images.resizing import RESIZES

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)


def color_task(**changes: object) -> ImageTask:
    fields = {
        "task": "classification",
        "class_names": ("cat", "dog"),
        "image_size": (6, 8),
        "channels": 3,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    }
    return ImageTask(**{**fields, **changes})  # type: ignore[arg-type]


def test_pixels_are_normalized_per_channel() -> None:
    expected = (PIXELS / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    x = color_task().preprocess(PIXELS)
    assert (x.shape, x.dtype) == ((6, 8, 3), np.float32)
    # Values up to 2.7, rounded three times in float32.
    np.testing.assert_allclose(x, expected, atol=1e-6)


def test_paths_images_and_arrays_give_the_same_input(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    task = color_task(image_size=(4, 4), resize="pad")
    expected = task.preprocess(PIXELS)
    for image in (path, str(path), Image.open(path)):
        np.testing.assert_array_equal(task.preprocess(image), expected)


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 1)])
def test_gray_pixels_become_color(shape: tuple[int, ...]) -> None:
    gray = PIXELS[..., 0]
    task = color_task()
    expected = task.preprocess(np.stack([gray] * 3, -1))
    np.testing.assert_array_equal(task.preprocess(gray.reshape(shape)), expected)


def test_segmentation_has_default_colors_and_values() -> None:
    task = color_task(task="segmentation", class_names=("background", "dog", "cat"))
    assert task.mask_values == (0, 1, 2)
    assert task.class_colors == ("#000000", *DISTINCT_COLORS[:2])
    assert color_task().class_colors == color_task().mask_values == ()
    given = color_task(task="segmentation", class_colors=("#ff0000", "#00ff00"), mask_values=(7, 3))
    assert (given.class_colors, given.mask_values) == (("#ff0000", "#00ff00"), (7, 3))


def test_mask_is_resized_with_its_image() -> None:
    task = color_task(task="segmentation", image_size=(8, 8), resize="pad")
    mask = task.resize_mask(Image.fromarray(np.full((4, 8), 3, np.uint8)), fill=255)
    assert mask.tolist() == [[255] * 8] * 2 + [[3] * 8] * 4 + [[255] * 8] * 2


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (PIXELS / 255, ValueError, r"got an array of float64\. If it is divided"),
        (PIXELS[None], ValueError, r"one image.*\(1, 6, 8, 3\)"),
        (np.zeros((3, 6, 8), np.uint8), ValueError, r"channels last"),
        (np.zeros((0, 8, 3), np.uint8), ValueError, r"\(0, 8, 3\)"),
        ([1, 2], TypeError, "got a list"),
        ("missing.png", FileNotFoundError, "missing.png"),
    ],
)
def test_other_images_are_refused(image: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        color_task().preprocess(image)


def test_pixels_in_a_compiled_function_are_normalized_alike() -> None:
    task = color_task()
    # XLA may multiply by the reciprocal of a divisor, which rounds differently.
    np.testing.assert_allclose(jax.jit(task.normalize)(PIXELS), task.normalize(PIXELS), atol=1e-6)


def test_float_pixels_are_not_normalized_again() -> None:
    with pytest.raises(ValueError, match=r"got float32\. If they are divided by 255"):
        color_task().normalize(np.zeros((2, 2, 3), np.float32))


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "detection"},
        {"class_names": ()},
        {"class_names": tuple(map(str, range(256))), "task": "segmentation"},
        {"image_size": (6,)},
        {"image_size": (0, 8)},
        {"channels": 4},
        {"mean": (0.5,)},
        {"std": (0.2, 0.2, 0.0)},
        {"resize": "squeeze"},
        {"crop_ratio": 0.5},
        {"class_colors": ("#ff0000",)},
        {"class_colors": ("#ff0000", "red")},
        {"mask_values": (1,)},
        {"mask_values": (3, 3)},
        {"mask_values": (3, 3), "class_names": ("a",)},
        {"mask_values": (0, 256)},
    ],
)
def test_impossible_values_are_refused(changes: dict[str, object]) -> None:
    name = next(iter(changes))
    with pytest.raises(ValueError, match=f"ImageTask.{name}: expected"):
        color_task(**changes)


def test_every_resize_is_allowed() -> None:
    assert set(RESIZE_NAMES) == RESIZES.keys()
    for name in RESIZES:
        assert color_task(resize=name).resize == name


def test_task_survives_json() -> None:
    task = color_task(resize="pad")
    assert ImageTask.from_json(json.loads(json.dumps(task.to_json()))) == task


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValueError, match=r"fields of an ImageTask.*color_space"):
        ImageTask.from_json({**color_task().to_json(), "color_space": "BGR"})
