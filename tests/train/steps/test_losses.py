"""The losses of training against NumPy in float64, and their sums over parts of a batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.data.batch import IGNORED_LABEL
from train.steps.losses import (
    LOSSES,
    TrainingLoss,
    balanced_weights,
    cross_entropy,
    dice_losses,
    label_losses,
)

WEIGHTS = (0.5, 2.0, 1.0)


def example(distributions=False):
    """Return logits and targets of two images of 4x5 pixels; some pixels are ignored."""
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((2, 4, 5, 3))
    if distributions:
        return logits, rng.dirichlet(np.ones(3), (2, 4, 5))
    return logits, rng.integers(IGNORED_LABEL, 3, (2, 4, 5))


def one_hot_targets(targets):
    """Return distributions, which are 0 for ignored pixels."""
    return targets if targets.dtype == float else np.eye(4)[targets][..., :3]


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


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


def test_cross_entropy_is_at_least_float32():
    logits = jnp.zeros((2, 3), jnp.bfloat16)
    assert cross_entropy(logits, jnp.zeros(2, jnp.int32)).dtype == jnp.float32


def test_an_ignored_pixel_has_no_loss_for_any_logits():
    rng = np.random.default_rng(0)
    logits, labels = np.float32(rng.standard_normal((2, 3, 4, 5))), rng.integers(0, 5, (2, 3, 4))
    whole = cross_entropy(logits, labels)
    labels[0, 1], logits[0, 1, 2] = IGNORED_LABEL, np.nan
    losses = cross_entropy(logits, labels)
    assert losses.shape == (2, 3, 4)
    np.testing.assert_array_equal(losses[0, 1], 0)
    kept = labels != IGNORED_LABEL
    np.testing.assert_array_equal(losses[kept], whole[kept])


def test_the_loss_of_a_class_is_that_of_its_one_hot_distribution():
    rng = np.random.default_rng(0)
    logits, labels = jnp.float32(rng.standard_normal((64, 5))), rng.integers(0, 5, 64)
    losses = cross_entropy(logits, jnp.eye(5)[labels])
    np.testing.assert_allclose(losses, cross_entropy(logits, labels), 1e-6)


@pytest.mark.parametrize("distributions", [False, True])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_label_losses_equal_numpy(distributions, weights, gamma):
    logits, targets = example(distributions)
    p, t = softmax(logits), one_hot_targets(targets)
    expected = -(t * np.array(weights or (1, 1, 1)) * (1 - p) ** gamma * np.log(p)).sum(-1)
    given = jnp.float32(targets) if distributions else targets
    losses = label_losses(jnp.float32(logits), given, gamma=gamma, class_weights=weights)
    np.testing.assert_allclose(losses, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("distributions", [False, True])
def test_dice_losses_equal_numpy(distributions):
    logits, targets = example(distributions)
    if not distributions:
        targets[1][targets[1] == 2] = 0  # the second image does not have class 2
    t = one_hot_targets(targets)
    expected = []
    for image in range(2):
        kept = t[image].sum(-1) > 0
        p_kept, t_kept = softmax(logits)[image][kept], t[image][kept]
        expected.append(
            np.mean(
                [
                    1
                    - 2
                    * (p_kept[:, k] * t_kept[:, k]).sum()
                    / ((p_kept[:, k] ** 2).sum() + (t_kept[:, k] ** 2).sum())
                    for k in range(3)
                    if t_kept[:, k].any()
                ]
            )
        )
    given = jnp.float32(targets) if distributions else targets
    np.testing.assert_allclose(dice_losses(jnp.float32(logits), given), expected, rtol=1e-5)


def test_the_dice_loss_is_0_for_a_perfect_prediction_and_without_labels():
    labels = np.array([[[0, 2], [2, IGNORED_LABEL]], [[IGNORED_LABEL] * 2] * 2])
    logits = 50 * jax.nn.one_hot(labels, 3)
    np.testing.assert_allclose(dice_losses(logits, labels), [0, 0], atol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_ignored_pixels_have_neither_loss_nor_gradient(name, weights):
    logits, labels = example()
    loss = TrainingLoss(name, weights)
    totals = loss.totals(labels)
    value, gradient = jax.value_and_grad(loss)(jnp.float32(logits), labels, totals)
    ignored = labels == IGNORED_LABEL
    logits[ignored] = 1e4
    again, _ = jax.value_and_grad(loss)(jnp.float32(logits), labels, totals)
    assert float(value) == pytest.approx(float(again), rel=1e-6)
    assert np.all(np.isfinite(gradient))
    np.testing.assert_array_equal(gradient[ignored], 0)
    assert np.any(gradient[~ignored] != 0)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_losses_of_the_parts_of_a_batch_add_up(name, weights):
    logits, labels = example()
    loss = TrainingLoss(name, weights)
    whole = loss(jnp.float32(logits), labels, loss.totals(labels))
    parts = [loss.totals(labels[image : image + 1]) for image in range(2)]
    totals = jax.tree.map(jnp.add, *parts)
    added = sum(
        loss(jnp.float32(logits[image : image + 1]), labels[image : image + 1], totals)
        for image in range(2)
    )
    assert float(added) == pytest.approx(float(whole), rel=1e-6)


def test_the_weighted_loss_is_a_weighted_mean():
    logits, labels = example()
    loss = TrainingLoss("cross_entropy", WEIGHTS)
    kept = labels >= 0
    losses = -np.log(softmax(logits)[kept][np.arange(kept.sum()), labels[kept]])
    expected = np.average(losses, weights=np.array(WEIGHTS)[labels[kept]])
    value = float(loss(jnp.float32(logits), labels, loss.totals(labels)))
    assert value == pytest.approx(expected, 1e-5)


def test_the_default_loss_is_the_cross_entropy():
    logits, labels = example()
    loss = TrainingLoss()
    expected = jnp.sum(cross_entropy(jnp.float32(logits), labels)) / np.sum(labels >= 0)
    assert loss(jnp.float32(logits), labels, loss.totals(labels)) == expected


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_bfloat16_are_float32_and_finite(name):
    logits = jnp.array([[[[0.0, 300.0, -300.0]]]], jnp.bfloat16)
    loss = TrainingLoss(name, WEIGHTS)
    labels = np.array([[[2]]])
    value, gradient = jax.value_and_grad(loss)(logits, labels, loss.totals(labels))
    assert value.dtype == jnp.float32
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient.astype(jnp.float32)))


def test_balanced_weights_give_each_class_the_same_total():
    counts = np.array([900, 90, 10, 0])
    weights = balanced_weights(counts)
    np.testing.assert_allclose(counts[:3] * weights[:3], 1000 / 3)
    assert np.average(weights, weights=counts) == pytest.approx(1)
    assert weights[3] == 1


def test_an_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="loss 'dice'"):
        TrainingLoss("dice")
