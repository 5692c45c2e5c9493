"""Metrics of a confusion matrix, and the table of tasks with the metrics of each."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Int

__all__ = [
    "DISPLAY_NAMES",
    "TASK_METRICS",
    "ConfusionMatrix",
    "TaskMetrics",
    "accuracy",
    "class_iou",
    "class_precision",
    "class_recall",
    "format_metrics",
    "mean_iou",
]

ConfusionMatrix = Int[np.ndarray, "classes classes"]
"""Number of labels n_jk of class j (rows) that were predicted as class k (columns)."""


def accuracy(confusion: ConfusionMatrix) -> float:
    """Compute the fraction of labels that were predicted correctly.

    It is::

        sum_k n_kk / sum_jk n_jk

    Args:
        confusion: Confusion matrix, `(classes, classes)`.

    Returns:
        The accuracy, in 0 .. 1.
    """
    return int(np.trace(confusion)) / int(confusion.sum())


def class_iou(confusion: ConfusionMatrix) -> np.ndarray:
    """Compute the intersection over union of each class.

    It is::

        iou_k = n_kk / (sum_j n_kj + sum_j n_jk - n_kk)

    Args:
        confusion: Confusion matrix, `(classes, classes)`.

    Returns:
        float64 `(classes,)`, in 0 .. 1. A class without labels and predictions has NaN.
    """
    hits = np.diagonal(confusion)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return _fractions(hits, union)


def class_recall(confusion: ConfusionMatrix) -> np.ndarray:
    """Compute the fraction of the labels of each class that were predicted correctly.

    It is::

        recall_k = n_kk / sum_j n_kj

    Args:
        confusion: Confusion matrix, `(classes, classes)`.

    Returns:
        float64 `(classes,)`, in 0 .. 1. A class without labels has NaN.
    """
    return _fractions(np.diagonal(confusion), confusion.sum(1))


def class_precision(confusion: ConfusionMatrix) -> np.ndarray:
    """Compute the fraction of the predictions of each class that were correct.

    It is::

        precision_k = n_kk / sum_j n_jk

    Args:
        confusion: Confusion matrix, `(classes, classes)`.

    Returns:
        float64 `(classes,)`, in 0 .. 1. A class without predictions has NaN.
    """
    return _fractions(np.diagonal(confusion), confusion.sum(0))


def mean_iou(confusion: ConfusionMatrix) -> float:
    """Compute the mean of `class_iou` over the classes with labels or predictions.

    Background is one of the classes. The pixels of the whole split are counted together; this is
    not the mean over images.

    Args:
        confusion: Confusion matrix, `(classes, classes)`.

    Returns:
        The mean, in 0 .. 1.

    References:
        Long, Shelhamer, Darrell, Fully Convolutional Networks, 2015, section 5.
    """
    return float(np.nanmean(class_iou(confusion)))


def _fractions(hits: np.ndarray, totals: np.ndarray) -> np.ndarray:
    return np.where(totals > 0, hits / np.maximum(totals, 1), np.nan)


@dataclasses.dataclass(frozen=True)
class TaskMetrics:
    """The metrics of a task.

    Attributes:
        accuracy_name: Name of the fraction of correct predictions, in training and evaluation.
        score_name: Name of the evaluation metric that selects the best checkpoint.
        metrics: All evaluation metrics except the loss by name, the score first.
        class_metrics: Metrics of each class by name. The first one says which classes are worst.
    """

    accuracy_name: str
    score_name: str
    metrics: dict[str, Callable[[ConfusionMatrix], float]]
    class_metrics: dict[str, Callable[[ConfusionMatrix], np.ndarray]]


TASK_METRICS = {
    "classification": TaskMetrics(
        "accuracy",
        "accuracy",
        {"accuracy": accuracy},
        {"recall": class_recall, "precision": class_precision},
    ),
    "segmentation": TaskMetrics(
        "pixel_accuracy",
        "mean_iou",
        {"mean_iou": mean_iou, "pixel_accuracy": accuracy},
        {"iou": class_iou, "recall": class_recall},
    ),
}
"""The metrics by task. The table of datasets has the task of each dataset."""

DISPLAY_NAMES = {
    "accuracy": "accuracy",
    "mean_iou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
    "iou": "IoU",
    "recall": "recall",
    "precision": "precision",
}
"""Names of the metrics that are fractions, as they are printed: of a split, and of one class."""


def format_metrics(metrics: Mapping[str, float], prefix: str = "") -> str:
    """Format the fractions among the metrics as percentages, and the loss if there is one.

    Args:
        metrics: Metrics by name.
        prefix: Text before each name, such as `"test "`.

    Returns:
        Names and values, such as `"accuracy 50.00%, loss 0.6931"`.
    """
    shown = [
        f"{prefix}{DISPLAY_NAMES[name]} {metrics[name]:.2%}"
        for name in metrics
        if name in DISPLAY_NAMES
    ]
    if "loss" in metrics:
        shown.append(f"{prefix}loss {metrics['loss']:.4f}")
    return ", ".join(shown)
