"""Test metrics of a confusion matrix against sets of pixels."""

import numpy as np
import pytest

from train.data.sources.datasets import DATASETS
from train.reporting.metrics import (
    DISPLAY_NAMES,
    TASK_METRICS,
    accuracy,
    class_iou,
    format_metrics,
    mean_iou,
)


def pixels(seed, classes=5, count=400):
    """Return labels, predictions of which about half are correct, and their confusion matrix."""
    rng = np.random.default_rng(seed)
    labels, guesses = rng.integers(0, classes, (2, count))
    predictions = np.where(rng.random(count) < 0.5, labels, guesses)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, predictions), 1)
    return labels, predictions, confusion


@pytest.mark.parametrize("seed", range(5))
def test_iou_is_intersection_over_union_of_sets_of_pixels(seed):
    labels, predictions, confusion = pixels(seed)
    expected = []
    for k in range(5):
        real, found = set(np.flatnonzero(labels == k)), set(np.flatnonzero(predictions == k))
        expected.append(len(real & found) / len(real | found))
    np.testing.assert_allclose(class_iou(confusion), expected, rtol=1e-15)
    assert mean_iou(confusion) == pytest.approx(np.mean(expected), rel=1e-15)
    assert accuracy(confusion) == np.mean(labels == predictions)


def test_absent_class_is_not_in_the_mean():
    confusion = np.diag([4, 0, 2])
    np.testing.assert_array_equal(class_iou(confusion), [1, np.nan, 1])
    assert mean_iou(confusion) == 1
    confusion[0, 1] = 2  # predicted only, so it is in the mean with an IoU of 0
    assert mean_iou(confusion) == pytest.approx((4 / 6 + 0 + 1) / 3)


def test_large_counts_are_exact():
    confusion = np.array([[2**40, 1], [0, 2**40]])
    assert class_iou(confusion)[1] == 2**40 / (2**40 + 1)


def test_each_task_has_a_dataset_and_display_names():
    assert {dataset.task for dataset in DATASETS.values()} == set(TASK_METRICS)
    for task in TASK_METRICS.values():
        assert task.accuracy_name in task.metrics
        assert next(iter(task.metrics)) == task.score_name
        assert {*task.metrics, *task.class_metrics} <= set(DISPLAY_NAMES)


def test_format_metrics():
    text = format_metrics({"mean_iou": 0.5, "pixel_accuracy": 0.875, "loss": 1.5, "x": 1}, "test ")
    assert text == "test mean IoU 50.00%, test pixel accuracy 87.50%, test loss 1.5000"
