"""Evaluate masks in the size of their images, instead of the size that the network reads."""

from __future__ import annotations

import numpy as np
from PIL import Image

from aff_jax.prediction.predictor import BATCH_SIZE, CROPPED, MaskPrediction, Predictor
from train.data.sources.class_table import IGNORED_VALUE
from train.data.sources.data_source import Source
from train.reporting.metrics import TASK_METRICS

__all__ = ["evaluate_in_original_size"]


def evaluate_in_original_size(
    predictor: Predictor, source: Source, batch_size: int = BATCH_SIZE
) -> tuple[dict[str, float], np.ndarray]:
    """Evaluate a network on every example of a split, in the sizes of the images.

    `predictor` makes the predictions: it resizes logits to the image before it chooses the best
    class.

    Args:
        predictor: A network for segmentation.
        source: The examples.
        batch_size: Number of images that are in memory at once.

    Returns:
        A tuple of the metrics of segmentation and the confusion matrix, as
        `train.eval_loop.evaluate` returns them, without the loss. If images were cropped, the
        metric `cropped` is the share of their labels; they are not counted in the others.

    Raises:
        ValueError: If the split has one label for each image, or no labels.
    """
    if not source.label_shape:
        raise ValueError(
            "expected masks for an evaluation in the original size, got a dataset with one label "
            "for each image. Leave out --original_size."
        )
    classes = source.num_classes
    confusion, cropped = np.zeros((classes, classes), np.int64), 0
    for start in range(0, len(source), batch_size):
        positions = range(start, min(start + batch_size, len(source)))
        images, masks = zip(*map(source.decode, positions), strict=True)
        for mask, prediction in zip(masks, predictor.predict_batch(images), strict=True):
            assert isinstance(prediction, MaskPrediction)
            assert isinstance(mask, Image.Image)
            labels, predicted = np.asarray(mask), prediction.classes
            counted = (labels != IGNORED_VALUE) & (predicted != CROPPED)
            pairs = classes * labels[counted].astype(np.int64) + predicted[counted]
            confusion += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
            cropped += int(np.sum((labels != IGNORED_VALUE) & (predicted == CROPPED)))
    counted_labels = int(confusion.sum())
    if not counted_labels:
        raise ValueError("expected labels in the split, got masks that ignore every pixel.")
    metrics = {
        name: metric(confusion) for name, metric in TASK_METRICS["segmentation"].metrics.items()
    }
    if cropped:
        metrics["cropped"] = cropped / (cropped + counted_labels)
    return metrics, confusion
