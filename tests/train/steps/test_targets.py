"""Predictions compared with targets, against NumPy."""

import jax.numpy as jnp
import numpy as np

from train.data.batch import IGNORED_LABEL
from train.steps.targets import confusion_counts, correct, valid_labels


def test_a_class_equals_its_one_hot_distribution():
    rng = np.random.default_rng(0)
    logits, labels = jnp.float32(rng.standard_normal((64, 5))), rng.integers(0, 5, 64)
    one_hot = jnp.eye(5)[labels]
    np.testing.assert_array_equal(correct(logits, one_hot), correct(logits, labels))
    np.testing.assert_array_equal(valid_labels(one_hot), valid_labels(labels))


def test_an_ignored_label_is_neither_valid_nor_correct():
    logits, labels = jnp.eye(3), jnp.array([0, IGNORED_LABEL, 0])
    np.testing.assert_array_equal(valid_labels(labels), [True, False, True])
    np.testing.assert_array_equal(correct(logits, labels), [True, False, False])


def test_confusion_counts_pixels():
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((2, 6, 7, 5)), rng.integers(-1, 5, (2, 6, 7))
    expected = np.zeros((5, 5), int)
    for index in np.ndindex(labels.shape):
        if labels[index] >= 0:
            expected[labels[index], logits[index].argmax()] += 1
    counts = confusion_counts(jnp.float32(logits), labels)
    assert counts.dtype == jnp.int32
    np.testing.assert_array_equal(counts, expected)


def test_rows_of_confusion_counts_are_labels():
    logits = jnp.eye(3)[jnp.array([0, 2, 1, 1])]
    labels = jnp.array([0, 0, 2, IGNORED_LABEL])
    expected = [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    np.testing.assert_array_equal(confusion_counts(logits, labels), expected)
