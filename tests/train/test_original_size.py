"""Evaluation of masks in the sizes of their images, against counts by hand."""

import numpy as np
import pytest
from PIL import Image

from tests.aff_jax.prediction.networks import color_predictor
from train.data.sources.class_table import IGNORED_VALUE
from train.original_size import evaluate_in_original_size


class Examples:
    """Decoded images and masks."""

    num_classes = 3

    def __init__(self, *examples, label_shape=(4, 6)):
        self.examples, self.label_shape = examples, label_shape

    def __len__(self):
        return len(self.examples)

    def decode(self, position):
        image, mask = self.examples[position]
        return Image.fromarray(image), Image.fromarray(mask)


def red(height, width, labels):
    """A red image, whose predicted class is 0 everywhere, and its mask."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = 255
    mask = np.zeros((height, width), np.uint8)
    mask[:, : len(labels)] = labels
    return image, mask


@pytest.mark.parametrize("batch_size", [1, 2])
def test_every_label_counts_once(batch_size):
    examples = Examples(red(8, 12, [1, 2, IGNORED_VALUE]), red(5, 7, []))
    metrics, confusion = evaluate_in_original_size(
        color_predictor("segmentation"), examples, batch_size
    )
    np.testing.assert_array_equal(confusion[:, 0], [8 * 9 + 5 * 7, 8, 8])
    assert confusion.sum() == 8 * 11 + 5 * 7
    assert metrics["pixel_accuracy"] == pytest.approx(107 / 123)
    assert "cropped" not in metrics


def test_labels_outside_of_the_crop_are_named():
    predictor = color_predictor("segmentation", resize="crop")
    metrics, confusion = evaluate_in_original_size(predictor, Examples(red(4, 12, [])))
    assert (metrics["cropped"], confusion.sum()) == (0.5, 24)


def test_classification_and_masks_without_labels_are_refused():
    predictor = color_predictor("segmentation")
    with pytest.raises(ValueError, match="got a dataset with one label for each image"):
        evaluate_in_original_size(predictor, Examples(label_shape=()))
    with pytest.raises(ValueError, match="masks that ignore every pixel"):
        evaluate_in_original_size(predictor, Examples(red(4, 6, [IGNORED_VALUE] * 6)))
