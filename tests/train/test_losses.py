"""Losses and counts against plain NumPy in float64."""

import jax.numpy as jnp
import numpy as np

from train.losses import confusion_counts, cross_entropy


def test_cross_entropy_equals_numpy():
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((7, 5)) * 10, rng.integers(0, 5, 7)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log(probabilities[np.arange(7), labels])
    # Single precision, logits of up to 30.
    np.testing.assert_allclose(
        cross_entropy(jnp.float32(logits), labels), expected, rtol=1e-5, atol=1e-5
    )


def test_cross_entropy_is_at_least_float32():
    logits = jnp.zeros((2, 3), jnp.bfloat16)
    assert cross_entropy(logits, jnp.zeros(2, jnp.int32)).dtype == jnp.float32


def test_confusion_counts_rows_are_labels_and_masked_examples_do_not_count():
    logits = jnp.eye(3)[jnp.array([0, 2, 1, 1])]
    labels, mask = jnp.array([0, 0, 2, 1]), jnp.array([1.0, 1.0, 1.0, 0.0])
    expected = [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    np.testing.assert_array_equal(confusion_counts(logits, labels, mask), expected)
