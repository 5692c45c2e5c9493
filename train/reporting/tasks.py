"""What is measured in a task: one table, name -> metrics out of a confusion matrix."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Int

__all__ = ["TASKS", "WORDS", "Task", "accuracy", "class_iou", "describe", "mean_iou"]

Confusion = Int[np.ndarray, "classes classes"]
"""Rows are labels, columns predictions."""


def accuracy(confusion: Confusion) -> float:
    """Share of the labels that were predicted: sum_k n_kk / sum_jk n_jk."""
    return int(np.trace(confusion)) / int(confusion.sum())


def class_iou(confusion: Confusion) -> np.ndarray:
    """Intersection over union of each class, float64 (classes,).

    iou_k = n_kk / (sum_j n_kj + sum_j n_jk - n_kk)

    NaN for a class that neither a label nor a prediction has.
    """
    hits = np.diagonal(confusion)
    union = confusion.sum(0) + confusion.sum(1) - hits
    return np.where(union > 0, hits / np.maximum(union, 1), np.nan)


def mean_iou(confusion: Confusion) -> float:
    """Mean of `class_iou` over the classes that are there; background is one of them.

    Over the counts of a whole split, not the mean over images.

    Source: Long, Shelhamer, Darrell, Fully Convolutional Networks, 2015, section 5.
    """
    return float(np.nanmean(class_iou(confusion)))


@dataclasses.dataclass(frozen=True)
class Task:
    """What is told of a run.

    `accuracy` is the name of the share of labels that are predicted, in training and evaluation;
    `score` of the evaluation metric that says which checkpoint is best; `metrics` are all those
    of an evaluation but the loss, the score first.
    """

    accuracy: str
    score: str
    metrics: dict[str, Callable[[Confusion], float]]


TASKS = {
    "classification": Task("accuracy", "accuracy", {"accuracy": accuracy}),
    "segmentation": Task(
        "pixel_accuracy", "mean_iou", {"mean_iou": mean_iou, "pixel_accuracy": accuracy}
    ),
}

WORDS = {"accuracy": "accuracy", "mean_iou": "mean IoU", "pixel_accuracy": "pixel accuracy"}
"""Metrics that are shares, in words."""


def describe(metrics: Mapping[str, float], prefix: str = "") -> str:
    """The shares among some metrics and their loss, those that there are, as one reads them."""
    told = [f"{prefix}{WORDS[name]} {metrics[name]:.2%}" for name in metrics if name in WORDS]
    if "loss" in metrics:
        told.append(f"{prefix}loss {metrics['loss']:.4f}")
    return ", ".join(told)
