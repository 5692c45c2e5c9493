"""The schedule and the optimizer against their equations, written out."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.optimizer import decayed_parameters, learning_rate_schedule, make_optimizer


@pytest.mark.parametrize(("warmup", "total"), [(10, 100), (0, 7)])
def test_schedule_warms_up_and_falls_along_a_cosine(warmup, total):
    schedule = learning_rate_schedule(0.5, warmup_steps=warmup, total_steps=total)
    for step in range(total + 1):
        if step < warmup:
            expected = 0.5 * step / warmup
        else:
            expected = 0.25 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
        assert schedule(step) == pytest.approx(expected, abs=1e-6)


def test_a_run_shorter_than_its_warm_up_has_a_schedule():
    schedule = learning_rate_schedule(0.5, warmup_steps=10, total_steps=1)
    assert np.isfinite(schedule(0))


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

    optimizer = make_optimizer(lambda step: rate, momentum=momentum, weight_decay=decay)
    now = jax.tree.map(jnp.float32, params)
    state = optimizer.init(now)
    for gradient in gradients:
        updates, state = optimizer.update(jax.tree.map(jnp.float32, gradient), state, now)
        now = jax.tree.map(lambda p, u: p + u, now, updates)
    for name in ("kernel", "bias"):
        np.testing.assert_allclose(now["layer"][name], expected["layer"][name], rtol=1e-5)


def test_batch_norm_and_biases_are_not_decayed():
    params = {"conv": {"kernel": 1.0}, "norm": {"scale": 1.0, "bias": 1.0}, "head": {"bias": 1.0}}
    assert decayed_parameters(params) == {
        "conv": {"kernel": True},
        "norm": {"scale": False, "bias": False},
        "head": {"bias": False},
    }
