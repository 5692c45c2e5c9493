"""The distribution of random crops."""

import numpy as np
import pytest

from configs import base
from train.config_checks import check_config
from train.data.sources.random_crop import CROP_AREAS, CROP_ASPECTS, random_box


def test_random_boxes_have_the_documented_distribution():
    rng = np.random.default_rng(0)
    width, height = 400, 300
    boxes = np.array([random_box(rng, width, height) for _ in range(4000)])
    left, upper, right, lower = boxes.T
    assert (left >= 0).all()
    assert (upper >= 0).all()
    assert (right <= width).all()
    assert (lower <= height).all()
    w, h = right - left, lower - upper
    # Sides have at least 74 pixels and are rounded.
    assert (w / h > 0.97 * CROP_ASPECTS[0]).all()
    assert (w / h < 1.03 * CROP_ASPECTS[1]).all()
    area = w * h / (width * height)
    assert (area > 0.97 * CROP_AREAS[0]).all()
    # Nearly all rectangles below half of the area fit immediately, so their areas are uniform.
    small = area[area < 0.5]
    assert abs(np.mean(small) - (CROP_AREAS[0] + 0.5) / 2) < 0.01  # 4 standard errors
    assert abs(np.mean(np.log(w / h)[area < 0.5])) < 0.015
    # Positions reach both ends of their range.
    assert left.min() == upper.min() == 0
    assert (right == width).any()


@pytest.mark.parametrize(
    ("size", "box"),
    [((1000, 10), (493, 0, 506, 10)), ((10, 1000), (0, 493, 10, 506)), ((1, 1), (0, 0, 1, 1))],
)
def test_random_box_of_a_strip_is_central(size, box):
    """No rectangle with 8 % of the area and an aspect ratio of at most 4 / 3 fits."""
    assert random_box(np.random.default_rng(0), *size) == box


def test_areas_and_aspects_are_those_of_the_result():
    rng = np.random.default_rng(0)
    boxes = np.array([random_box(rng, 640, 480, (0.25, 0.5), 2.0) for _ in range(1000)])
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert (w / h > 0.98 * 2 * CROP_ASPECTS[0]).all()
    assert (w / h < 1.02 * 2 * CROP_ASPECTS[1]).all()
    assert (w * h > 0.98 * 0.25 * 640 * 480).all()
    assert (w * h < 1.02 * 0.5 * 640 * 480).all()
    # The whole image has an aspect ratio of 4 / 3, and a square is cropped to 3 / 4 at most.
    assert random_box(rng, 30, 30, (1.0, 1.0), 2.0) == (0, 5, 30, 25)


def test_boxes_of_the_papers_recipes_do_not_change():
    boxes = [random_box(np.random.default_rng(seed), 500, 375) for seed in range(3)]
    assert boxes == [(65, 166, 194, 337), (4, 13, 370, 295), (111, 94, 342, 354)]


def test_the_default_of_the_config_is_that_of_the_papers():
    config = base.get_config()
    assert tuple(config.crop_scale) == CROP_AREAS
    check_config(config)  # which knows the default too
