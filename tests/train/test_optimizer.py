"""The schedule and the optimizer against their equations, written out."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.optimizer import (
    SCHEDULES,
    decayed_parameters,
    learning_rate_schedule,
    make_optimizer,
)


@pytest.mark.parametrize(("warmup", "total"), [(10, 100), (0, 7)])
def test_schedule_warms_up_and_falls_along_a_cosine(warmup, total):
    schedule = learning_rate_schedule("cosine", 0.5, warmup_steps=warmup, total_steps=total)
    for step in range(total + 1):
        if step < warmup:
            expected = 0.5 * step / warmup
        else:
            expected = 0.25 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
        assert schedule(step) == pytest.approx(expected, abs=1e-6)


def test_a_run_shorter_than_its_warm_up_has_a_schedule():
    for name in SCHEDULES:
        schedule = learning_rate_schedule(name, 0.5, warmup_steps=10, total_steps=1)
        assert schedule(0) == 0.5


@pytest.mark.parametrize(("warmup", "total"), [(10, 100), (0, 7)])
def test_poly_warms_up_and_falls_with_the_power_of_nine_tenths(warmup, total):
    schedule = learning_rate_schedule("poly", 0.5, warmup_steps=warmup, total_steps=total)
    for step in range(total + 1):
        left = 1 - (step - warmup) / (total - warmup)
        expected = 0.5 * step / warmup if step < warmup else 0.5 * left**0.9
        assert schedule(step) == pytest.approx(expected, abs=1e-6)


def test_an_unknown_name_is_told():
    with pytest.raises(ValueError, match=r"unknown schedule 'ploy'\. Did you mean 'poly'"):
        learning_rate_schedule("ploy", 0.5, warmup_steps=0, total_steps=1)
    with pytest.raises(ValueError, match=r"unknown optimizer 'adagrd'\. Did you mean 'adagrad'"):
        make_optimizer("adagrd", lambda step: 0.1, momentum=0.9, weight_decay=0.0)


def test_three_steps_of_nesterov_momentum_with_decay():
    rate, momentum, decay = 0.1, 0.9, 0.01
    rng = np.random.default_rng(0)
    params = {"layer": {"kernel": rng.standard_normal(4), "bias": rng.standard_normal(4)}}
    gradients = [jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), params)] * 3

    expected = jax.tree.map(np.copy, params)
    velocity = jax.tree.map(np.zeros_like, params)
    for gradient in gradients:
        for name, weight in expected["layer"].items():
            g = gradient["layer"][name] + (decay * weight if name == "kernel" else 0)
            v = velocity["layer"][name] = g + momentum * velocity["layer"][name]
            expected["layer"][name] = weight - rate * (g + momentum * v)

    optimizer = make_optimizer("sgd", lambda step: rate, momentum=momentum, weight_decay=decay)
    now = jax.tree.map(jnp.float32, params)
    state = optimizer.init(now)
    for gradient in gradients:
        updates, state = optimizer.update(jax.tree.map(jnp.float32, gradient), state, now)
        now = jax.tree.map(lambda p, u: p + u, now, updates)
    for name in ("kernel", "bias"):
        np.testing.assert_allclose(now["layer"][name], expected["layer"][name], rtol=1e-5)


def test_three_steps_of_adagrad_with_decay():
    decay = 0.01
    rng = np.random.default_rng(0)
    weight = rng.standard_normal(4)
    gradients = rng.standard_normal((3, 4))
    gradients[:, 0] = -decay * weight[0]  # nothing ever to do: zero over zero

    optimizer = make_optimizer(
        "adagrad", lambda step: 0.1 / (step + 1), momentum=0.9, weight_decay=decay
    )
    now = {"kernel": jnp.float32(weight)}
    state = optimizer.init(now)
    expected, history = weight.copy(), np.zeros(4)
    for step, gradient in enumerate(gradients):
        updates, state = optimizer.update({"kernel": jnp.float32(gradient)}, state, now)
        now = jax.tree.map(lambda p, u: p + u, now, updates)
        g = gradient + decay * expected
        history += g**2
        expected -= 0.1 / (step + 1) * g / np.sqrt(history + 1e-7)
    np.testing.assert_allclose(now["kernel"], expected, rtol=1e-5)


def test_batch_norm_and_biases_are_not_decayed():
    params = {"conv": {"kernel": 1.0}, "norm": {"scale": 1.0, "bias": 1.0}, "head": {"bias": 1.0}}
    assert decayed_parameters(params) == {
        "conv": {"kernel": True},
        "norm": {"scale": False, "bias": False},
        "head": {"bias": False},
    }
