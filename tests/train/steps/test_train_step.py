"""The training step: one device against equations, and eight devices against one."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aff_jax
from tests.train.small_network import SmallNetwork, batches, scaled, state_and_step
from train.data.batch import IGNORED_LABEL
from train.steps.eval_step import make_eval_step
from train.steps.losses import TrainingLoss
from train.steps.parallel import AXIS, PARALLEL
from train.steps.state import make_state
from train.steps.train_step import make_train_step


def train(model, image_shape, feed, devices):
    """Return the state and the losses after training on a number of devices."""
    optimizer = optax.sgd(0.05, momentum=0.9)
    step = make_train_step(model, optimizer, lambda step: 0.05, scaled, AXIS)
    parallel = PARALLEL["pmap"](jax.devices()[:devices])
    state = make_state(model, optimizer, 0, image_shape)
    train_step = parallel.compile(step, donate_state=True)
    state, losses = parallel.replicate(state), []
    for batch in feed:
        state, metrics = train_step(state, batch)
        losses.append(float(metrics["loss"]))
    return jax.device_get(state), losses


@pytest.mark.slow
def test_eight_devices_follow_one_with_synchronized_batch_norm():
    """In double precision, since another order of the sums makes 1e-3 in single precision."""
    norm = functools.partial(aff_jax.BatchNorm, axis_name=AXIS)
    with jax.enable_x64(True):
        model = aff_jax.create_model(
            "cifar_resnet8", "aff", num_classes=10, norm=norm, param_dtype=jnp.float64
        )
        (one, losses), (eight, losses_of_eight) = (
            train(model, (8, 8, 1), batches(12, size=32, side=8), devices) for devices in (1, 8)
        )
    assert losses[-1] < 0.6 * losses[0]
    # Twelve steps multiply the rounding of the first, 1e-16, by about 1e4.
    np.testing.assert_allclose(losses_of_eight, losses, rtol=1e-9)
    chex.assert_trees_all_close(eight.params, one.params, rtol=1e-7, atol=1e-9)
    chex.assert_trees_all_close(eight.batch_stats, one.batch_stats, rtol=1e-7)


class PerPixel(nn.Module):
    """A linear network with an output per pixel."""

    @nn.compact
    def __call__(self, images, train=False):
        return nn.Dense(3)(images)


def scenes(size=16):
    """Return two-channel images of 4x5 pixels; later images have more ignored pixels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (size, 4, 5)).astype(np.int32)
    ignored = rng.random(labels.shape) < np.linspace(0, 1, size)[:, None, None]
    labels[ignored] = IGNORED_LABEL
    labels[-1] = IGNORED_LABEL
    return {"image": rng.integers(0, 255, (size, 4, 5, 2)).astype(np.uint8), "label": labels}


def per_pixel_step(devices):
    """Return the initial state and the step of SGD with rate 1 on a number of devices."""
    model, optimizer = PerPixel(), optax.sgd(1.0)
    step = make_train_step(model, optimizer, lambda step: 1.0, scaled, AXIS, "pixel_accuracy")
    parallel = PARALLEL["pmap"](jax.devices()[:devices])
    state = make_state(model, optimizer, 0, (4, 5, 2))
    return jax.device_get(state), lambda state, batch: parallel.compile(step, donate_state=True)(
        parallel.replicate(state), batch
    )


@pytest.mark.parametrize("devices", [1, 8])
def test_pixels_have_the_same_weight_on_any_number_of_devices(devices):
    state, step = per_pixel_step(devices)
    batch = scenes()
    new_state, metrics = step(state, batch)
    dense = jax.tree.map(np.float64, state.params["Dense_0"])
    valid = batch["label"] >= 0
    logits = (batch["image"] / 255 @ dense["kernel"] + dense["bias"])[valid]
    labels = batch["label"][valid]
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]
    assert metrics["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    accuracy = (logits.argmax(1) == labels).mean()
    assert metrics["pixel_accuracy"] == pytest.approx(accuracy, rel=1e-6)
    # The gradient of the bias is the mean prediction minus the share of each label.
    predictions = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    gradient = predictions.mean(0) - np.bincount(labels, minlength=3) / len(labels)
    update = state.params["Dense_0"]["bias"] - new_state.params["Dense_0"]["bias"]
    np.testing.assert_allclose(update, gradient, rtol=1e-4, atol=1e-6)


def test_a_batch_without_labels_changes_no_parameter():
    state, step = per_pixel_step(1)
    batch = scenes()
    batch["label"][:] = IGNORED_LABEL
    new_state, metrics = step(state, batch)
    assert metrics["loss"] == 0
    chex.assert_trees_all_equal(new_state.params, state.params)


def spoiled(images, labels, step, first_row):
    """Make an image NaN in steps 2 and 3, on the second device only."""
    bad = (step >= 2) & (step < 4) & (first_row > 0)
    return images / 255 + jnp.where(bad, jnp.nan, 0.0), labels


def test_a_gradient_that_is_not_finite_changes_only_the_counters():
    parallel = PARALLEL["pmap"](jax.devices()[:2])
    state, step = state_and_step(SmallNetwork(), augment=spoiled, ema_decay=0.9)
    state, train_step = parallel.replicate(state), parallel.compile(step, donate_state=True)
    states, rates = [], []
    for batch in batches(5):
        state, metrics = train_step(state, batch)
        states.append(jax.device_get(state))
        rates.append(float(metrics["learning_rate"]))
        assert np.isfinite(metrics["loss"]) == (metrics["skipped_in_row"] == 0)
    assert [int(s.step) for s in states] == [1, 2, 3, 4, 5]
    assert [int(s.skipped) for s in states] == [0, 0, 1, 2, 2]
    assert [int(s.skipped_in_row) for s in states] == [0, 0, 1, 2, 0]
    for name in ("params", "batch_stats", "opt_state", "ema"):
        before, after = getattr(states[1], name), getattr(states[3], name)
        chex.assert_trees_all_equal(before, after)
        chex.assert_tree_all_finite(getattr(states[4], name))
        assert any(jax.tree.leaves(jax.tree.map(np.any, getattr(states[4], name))))
    # The schedule counts updates, as the optimizer does.
    np.testing.assert_allclose(rates, [0.1 / (1 + k) for k in (0, 1, 2, 2, 2)], rtol=1e-6)
    assert states[-1].opt_state[1].count == 3


@pytest.mark.slow
def test_the_moving_averages_equal_numpys_and_are_evaluated():
    """Parameters and statistics are averaged, with the decay 1/10, 2/11, 3/12 ... up to 0.22."""
    parallel = PARALLEL["shard_map"](jax.devices()[:2])
    model = SmallNetwork()
    state, step = state_and_step(model, ema_decay=0.22)
    expected = jax.device_get(state.variables)
    chex.assert_trees_all_equal(state.ema, expected)
    state, train_step = parallel.replicate(state), parallel.compile(step, donate_state=True)
    for t, batch in enumerate(batches(5)):
        state, _ = train_step(state, batch)
        decay = np.float32(min(0.22, (1 + t) / (10 + t)))
        expected = jax.tree.map(
            lambda old, new, d=decay: d * old + (1 - d) * np.asarray(new), expected, state.variables
        )
    chex.assert_trees_all_close(state.ema, expected, rtol=1e-5, atol=1e-7)
    eval_step = make_eval_step(model, lambda images: images / 255, AXIS)
    sums = parallel.compile(eval_step)(state, {**batch, "is_example": np.ones(16, np.float32)})
    averaged, last = (
        np.asarray(model.apply(variables, np.float32(batch["image"]) / 255))
        for variables in (expected, state.variables)
    )
    losses = [
        optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).sum()
        for logits in (averaged, last)
    ]
    assert sums["loss"] == pytest.approx(float(losses[0]), rel=1e-5)
    assert abs(losses[0] - losses[1]) > 1e-3


@pytest.mark.parametrize("name", ["focal", "cross_entropy_dice"])
def test_a_weighted_loss_is_that_of_the_global_batch(name):
    """On two devices with two microbatches each, whose numbers of labels differ."""
    loss, optimizer, batch = TrainingLoss(name, (0.2, 1.0, 3.0)), optax.sgd(1.0), scenes()
    state = jax.device_get(make_state(PerPixel(), optimizer, 0, (4, 5, 2)))

    def global_loss(params):
        logits = PerPixel().apply({"params": params}, batch["image"] / 255)
        return loss(logits, batch["label"], loss.totals(batch["label"]))

    expected, gradient = jax.value_and_grad(global_loss)(state.params)
    step = make_train_step(
        PerPixel(),
        optimizer,
        lambda step: 1.0,
        scaled,
        AXIS,
        loss_function=loss,
        accumulation=2,
    )
    parallel = PARALLEL["pmap"](jax.devices()[:2])
    new_state, metrics = parallel.compile(step, donate_state=True)(parallel.replicate(state), batch)
    assert float(metrics["loss"]) == pytest.approx(float(expected), rel=1e-5)
    update = jax.tree.map(lambda x, y: x - y, state.params, jax.device_get(new_state.params))
    chex.assert_trees_all_close(update, gradient, rtol=1e-4, atol=1e-6)
