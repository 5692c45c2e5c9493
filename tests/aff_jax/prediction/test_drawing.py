"""Masks, overlays and legends, pixel by pixel."""

import numpy as np
from PIL import Image

from aff_jax.prediction.drawing import cropped_value, draw_legend, draw_mask, draw_overlay
from aff_jax.prediction.predictor import CROPPED
from tests.aff_jax.prediction.networks import color_task

CLASSES = np.array([[0, 1, 2], [2, 1, CROPPED]], np.uint8)
COLORS = ("#ff0000", "#00ff00", "#0000ff")


def test_a_mask_has_the_numbers_and_the_colors_of_the_classes():
    mask = draw_mask(CLASSES, color_task("segmentation", class_colors=COLORS))
    assert (mask.mode, mask.size) == ("P", (3, 2))
    np.testing.assert_array_equal(np.asarray(mask), CLASSES)
    red, green, blue = np.eye(3, dtype=int) * 255
    expected = [[red, green, blue], [blue, green, [255, 255, 255]]]
    np.testing.assert_array_equal(np.asarray(mask.convert("RGB")), expected)


def test_a_mask_has_the_values_of_the_dataset():
    mask = draw_mask(CLASSES, color_task("segmentation", mask_values=(7, 0, 200)))
    np.testing.assert_array_equal(np.asarray(mask), [[7, 0, 200], [200, 0, CROPPED]])


def test_cropped_pixels_never_have_the_value_of_a_class():
    task = color_task("segmentation", mask_values=(0, 254, 255))
    assert cropped_value(task) == 253
    np.testing.assert_array_equal(draw_mask(CLASSES, task), [[0, 254, 255], [255, 254, 253]])
    assert cropped_value(color_task("segmentation")) == 255


def test_a_mask_is_the_same_after_it_was_written(tmp_path):
    mask = draw_mask(CLASSES, color_task("segmentation"))
    mask.save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as read:
        np.testing.assert_array_equal(np.asarray(read), CLASSES)


def test_an_overlay_is_half_color_half_image():
    image = Image.new("L", (3, 2), 100)
    overlay = draw_overlay(image, CLASSES, color_task("segmentation", class_colors=COLORS))
    pixels = np.asarray(overlay)
    np.testing.assert_allclose(pixels[0, 0], [177.5, 50, 50], atol=1)  # rounded by Pillow
    assert pixels[1, 2].tolist() == [100, 100, 100]  # cropped


def test_a_legend_has_each_color_and_names_of_any_letters():
    task = color_task("segmentation", class_names=("a", "猫", "g"), class_colors=COLORS)
    legend = draw_legend(task)
    found = {tuple(pixel) for pixel in np.asarray(legend).reshape(-1, 3).tolist()}
    assert {(255, 0, 0), (0, 255, 0), (0, 0, 255)} <= found
