"""One step on one device against its equations, and on eight against one."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aff_jax
from tests.train import small_network
from tests.train.small_network import SmallNetwork, state_and_step
from train.data.labels import IGNORE_LABEL
from train.steps.parallel import AXIS, PARALLEL
from train.steps.state import create_state
from train.steps.step import make_eval_step, make_train_step


def make(sync_batch_norm=True, fusion="aff", **fields):
    axis_name = AXIS if sync_batch_norm else None
    norm = functools.partial(aff_jax.BatchNorm, axis_name=axis_name)
    model = aff_jax.create_model("cifar_resnet8", fusion, num_classes=10, norm=norm, **fields)
    optimizer = optax.sgd(0.05, momentum=0.9)
    step = make_train_step(
        model,
        optimizer,
        lambda step: 0.05,
        lambda images, labels, step, row: (images / 255, labels),
        AXIS,
    )
    return model, create_state(model, optimizer, 0, (8, 8, 1)), step


def batches(count, size=32):
    rng = np.random.default_rng(0)
    for _ in range(count):
        labels = rng.integers(0, 10, size).astype(np.int32)
        images = rng.integers(0, 255, (size, 8, 8, 1)) * (labels[:, None, None, None] + 1) / 10
        yield {"image": images.astype(np.uint8), "label": labels}


def losses(step, state, devices, count=12):
    """Loss of each step on that many devices, with the same global batches."""
    mapped = jax.pmap(
        step,
        AXIS,
        in_axes=(None, 0),
        out_axes=(None, None),
        devices=jax.devices()[:devices],
    )
    curve = []
    for batch in batches(count):
        split = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)
        state, metrics = mapped(state, split)
        curve.append(float(metrics["loss"]))
    return curve, state


@pytest.mark.slow
def test_eight_devices_follow_one_with_synchronised_batch_norm():
    """The same sums in another order, so in double precision: single precision parts at 1e-3."""
    with jax.enable_x64(True):
        _, state, step = make(param_dtype=jnp.float64)
        one, state_one = losses(step, state, 1)
        eight, state_eight = losses(step, state, 8)
    assert one[-1] < 0.6 * one[0]
    # Twelve steps multiply the rounding of the first, 1e-16, by about 1e4.
    np.testing.assert_allclose(eight, one, rtol=1e-9)
    chex.assert_trees_all_close(state_eight.params, state_one.params, rtol=1e-7, atol=1e-9)
    chex.assert_trees_all_close(state_eight.batch_stats, state_one.batch_stats, rtol=1e-7)


def test_statistics_are_averaged_where_batch_norm_is_not_synchronised():
    model, state, step = make(sync_batch_norm=False, fusion="add")
    (batch,) = batches(1)
    mapped = jax.pmap(
        step, AXIS, in_axes=(None, 0), out_axes=(None, None), devices=jax.devices()[:2]
    )
    new_state, _ = mapped(state, jax.tree.map(lambda x: x.reshape(2, 16, *x.shape[1:]), batch))
    pixels = np.float32(batch["image"]) / 255
    halves = [
        model.apply(state.variables, pixels[rows], True, mutable=["batch_stats"])[1]
        for rows in (slice(16), slice(16, 32))
    ]
    expected = jax.tree.map(lambda a, b: (a + b) / 2, *halves)["batch_stats"]
    chex.assert_trees_all_close(new_state.batch_stats, expected, rtol=1e-4, atol=1e-5)


def test_one_step_is_the_gradient_of_the_mean_loss():
    model, state, step = make(fusion="add")
    (batch,) = batches(1)

    def loss_of(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        norm_free = model.clone(norm=aff_jax.BatchNorm)
        logits, _ = norm_free.apply(
            variables, np.float32(batch["image"]) / 255, True, mutable=["batch_stats"]
        )
        log_probabilities = jax.nn.log_softmax(logits)
        return -jnp.mean(log_probabilities[np.arange(32), batch["label"]])

    loss, gradient = jax.jit(jax.value_and_grad(loss_of))(state.params)
    mapped = jax.pmap(
        step, AXIS, in_axes=(None, 0), out_axes=(None, None), devices=jax.devices()[:1]
    )
    new_state, metrics = mapped(state, jax.tree.map(lambda x: x[None], batch))
    assert metrics["loss"] == pytest.approx(float(loss), rel=1e-5)
    assert metrics["gradient_norm"] == pytest.approx(float(optax.tree.norm(gradient)), rel=1e-4)
    assert metrics["learning_rate"] == pytest.approx(0.05)
    expected = jax.tree.map(lambda p, g: p - 0.05 * g, state.params, gradient)
    chex.assert_trees_all_close(new_state.params, expected, rtol=1e-3, atol=1e-6)
    assert new_state.step == 1


@pytest.mark.parametrize("devices", [1, 8])
def test_evaluation_sums_over_real_examples_only(devices):
    model, state, _ = make(fusion="add")
    (batch,) = batches(1, size=16)
    mask = np.float32(np.arange(16) < 11)
    # What is in the padding must not matter.
    batch["image"][11:] = 255
    step = make_eval_step(model, lambda images: images / 255, AXIS)
    mapped = jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=None, devices=jax.devices()[:devices])
    split = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), {**batch, "mask": mask})
    sums = mapped(state, split)
    logits = np.float64(model.apply(state.variables, np.float32(batch["image"][:11]) / 255))
    labels = batch["label"][:11]
    log_sum = np.log(np.exp(logits).sum(1))
    assert sums["loss"] == pytest.approx((log_sum - logits[np.arange(11), labels]).sum(), rel=1e-5)
    expected = np.zeros((10, 10), int)
    np.add.at(expected, (labels, logits.argmax(1)), 1)
    np.testing.assert_array_equal(sums["confusion"], expected)
    assert sums["examples"] == 11


class PerPixel(nn.Module):
    """The smallest network that answers for each pixel."""

    @nn.compact
    def __call__(self, images, train=False):
        return nn.Dense(3)(images)


def scenes(size=16):
    """Two-channel images of 4x5 pixels, labels with more ignored pixels at the batch's end."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (size, 4, 5)).astype(np.int32)
    ignored = rng.random(labels.shape) < np.linspace(0, 1, size)[:, None, None]
    labels[ignored] = IGNORE_LABEL
    labels[-1] = IGNORE_LABEL
    return {"image": rng.integers(0, 255, (size, 4, 5, 2)).astype(np.uint8), "label": labels}


def per_pixel_oracle(state, batch):
    """Losses and predictions of the labels that count, in float64."""
    dense = jax.tree.map(np.float64, state.params["Dense_0"])
    logits = batch["image"] / 255 @ dense["kernel"] + dense["bias"]
    counted = batch["label"] >= 0
    logits, labels = logits[counted], batch["label"][counted]
    picked = logits[np.arange(len(labels)), labels]
    return np.log(np.exp(logits).sum(1)) - picked, logits.argmax(1), labels


@pytest.mark.parametrize("devices", [1, 8])
def test_pixels_have_the_same_weight_on_any_number_of_devices(devices):
    model, optimizer = PerPixel(), optax.sgd(1.0)
    state = create_state(model, optimizer, 0, (4, 5, 2))
    batch = scenes()
    step = make_train_step(
        model,
        optimizer,
        lambda step: 1.0,
        lambda images, labels, step, row: (images / 255, labels),
        AXIS,
        "pixel_accuracy",
    )
    mapped = jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=None, devices=jax.devices()[:devices])
    new_state, metrics = mapped(
        state, jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)
    )
    losses, predictions, labels = per_pixel_oracle(state, batch)
    assert metrics["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert metrics["pixel_accuracy"] == pytest.approx((predictions == labels).mean(), rel=1e-6)
    # The gradient of the bias: predicted minus labelled shares of the pixels that count.
    dense = jax.tree.map(np.float64, state.params["Dense_0"])
    logits = (batch["image"] / 255 @ dense["kernel"] + dense["bias"])[batch["label"] >= 0]
    soft = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    gradient = soft.mean(0) - np.bincount(labels, minlength=3) / len(labels)
    moved = state.params["Dense_0"]["bias"] - new_state.params["Dense_0"]["bias"]
    np.testing.assert_allclose(moved, gradient, rtol=1e-4, atol=1e-6)


def test_a_batch_without_any_label_moves_nothing():
    model, optimizer = PerPixel(), optax.sgd(1.0)
    state = create_state(model, optimizer, 0, (4, 5, 2))
    batch = scenes()
    batch["label"][:] = IGNORE_LABEL
    step = make_train_step(
        model,
        optimizer,
        lambda step: 1.0,
        lambda images, labels, step, row: (images / 255, labels),
        AXIS,
    )
    mapped = jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=None, devices=jax.devices()[:1])
    new_state, metrics = mapped(state, jax.tree.map(lambda x: x[None], batch))
    assert metrics["loss"] == 0
    chex.assert_trees_all_equal(new_state.params, state.params)


@pytest.mark.parametrize("devices", [1, 8])
def test_evaluation_counts_pixels_of_real_examples_that_are_not_ignored(devices):
    model = PerPixel()
    state = create_state(model, optax.sgd(1.0), 0, (4, 5, 2))
    batch = scenes()
    mask = np.float32(np.arange(16) < 11)
    batch["label"][11:] = 1  # padding
    step = make_eval_step(model, lambda images: images / 255, AXIS)
    mapped = jax.pmap(step, AXIS, in_axes=(None, 0), out_axes=None, devices=jax.devices()[:devices])
    split = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), {**batch, "mask": mask})
    sums = mapped(state, split)
    losses, predictions, labels = per_pixel_oracle(state, jax.tree.map(lambda x: x[:11], batch))
    expected = np.zeros((3, 3), int)
    np.add.at(expected, (labels, predictions), 1)
    np.testing.assert_array_equal(sums["confusion"], expected)
    assert sums["loss"] == pytest.approx(losses.sum(), rel=1e-5)
    assert sums["examples"] == 11


def spoiled(images, labels, step, first_row):
    """Steps 2 and 3 have an image that is not a number, on the second device only."""
    bad = (step >= 2) & (step < 4) & (first_row > 0)
    return images / 255 + jnp.where(bad, jnp.nan, 0.0), labels


def test_a_gradient_that_is_not_finite_changes_nothing_but_the_counters():
    parallel = PARALLEL["pmap"](jax.devices()[:2])
    state, step = state_and_step(SmallNetwork(), augment=spoiled, ema_decay=0.9)
    state, train_step = parallel.replicate(state), parallel.train_step(step)
    states, rates = [], []
    for batch in small_network.batches(5):
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


def test_the_averages_are_numpys_and_are_what_is_evaluated():
    """Of parameters and statistics, with the decay 1/10, 2/11, 3/12 ... until it is 0.22."""
    parallel = PARALLEL["shard_map"](jax.devices()[:2])
    model = SmallNetwork()
    state, step = state_and_step(model, ema_decay=0.22)
    expected = jax.device_get(state.variables)
    chex.assert_trees_all_equal(state.ema, expected)
    state, train_step = parallel.replicate(state), parallel.train_step(step)
    for t, batch in enumerate(small_network.batches(5)):
        state, _ = train_step(state, batch)
        decay = np.float32(min(0.22, (1 + t) / (10 + t)))
        expected = jax.tree.map(
            lambda old, new, d=decay: d * old + (1 - d) * np.asarray(new), expected, state.variables
        )
    chex.assert_trees_all_close(state.ema, expected, rtol=1e-5, atol=1e-7)
    eval_step = make_eval_step(model, lambda images: images / 255, AXIS)
    sums = parallel.eval_step(eval_step)(state, {**batch, "mask": np.ones(16, np.float32)})
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
