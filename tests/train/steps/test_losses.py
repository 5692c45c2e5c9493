"""Losses and counts against NumPy in float64."""

import jax.numpy as jnp
import numpy as np

from train.data.batch import IGNORE_LABEL
from train.steps.losses import confusion_counts, correct, cross_entropy, valid_labels


def test_cross_entropy_equals_numpy():
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((7, 5)) * 10, rng.integers(0, 5, 7)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log(probabilities[np.arange(7), labels])
    # Single precision, logits of up to 30.
    np.testing.assert_allclose(
        cross_entropy(jnp.float32(logits), labels), expected, rtol=1e-5, atol=1e-5
    )


def test_cross_entropy_of_a_distribution_equals_numpy():
    rng = np.random.default_rng(0)
    logits, targets = rng.standard_normal((7, 5)) * 10, rng.dirichlet(np.ones(5), 7)
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -(targets * log_probabilities).sum(1)
    losses = cross_entropy(jnp.float32(logits), jnp.float32(targets))
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-5)


def test_a_class_equals_its_one_hot_distribution():
    rng = np.random.default_rng(0)
    logits, labels = jnp.float32(rng.standard_normal((64, 5))), rng.integers(0, 5, 64)
    one_hot = jnp.eye(5)[labels]
    np.testing.assert_array_equal(correct(logits, one_hot), correct(logits, labels))
    np.testing.assert_array_equal(valid_labels(one_hot), valid_labels(labels))
    np.testing.assert_allclose(cross_entropy(logits, one_hot), cross_entropy(logits, labels), 1e-6)


def test_an_ignored_label_is_neither_valid_nor_correct():
    logits, labels = jnp.eye(3), jnp.array([0, IGNORE_LABEL, 0])
    np.testing.assert_array_equal(valid_labels(labels), [True, False, True])
    np.testing.assert_array_equal(correct(logits, labels), [True, False, False])


def test_cross_entropy_is_at_least_float32():
    logits = jnp.zeros((2, 3), jnp.bfloat16)
    assert cross_entropy(logits, jnp.zeros(2, jnp.int32)).dtype == jnp.float32


def test_an_ignored_pixel_has_no_loss_for_any_logits():
    rng = np.random.default_rng(0)
    logits, labels = np.float32(rng.standard_normal((2, 3, 4, 5))), rng.integers(0, 5, (2, 3, 4))
    whole = cross_entropy(logits, labels)
    labels[0, 1], logits[0, 1, 2] = IGNORE_LABEL, np.nan
    losses = cross_entropy(logits, labels)
    assert losses.shape == (2, 3, 4)
    np.testing.assert_array_equal(losses[0, 1], 0)
    kept = labels != IGNORE_LABEL
    np.testing.assert_array_equal(losses[kept], whole[kept])


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
    labels = jnp.array([0, 0, 2, IGNORE_LABEL])
    expected = [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    np.testing.assert_array_equal(confusion_counts(logits, labels), expected)
