"""The optimizers against their equations in NumPy float64."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.optim.optimizers import OPTIMIZERS, WEIGHT_DECAY_MASKS, create_optimizer


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"unknown optimizer 'adagrd'\. Did you mean 'adagrad'"):
        create_optimizer("adagrd", lambda step: 0.1, momentum=0.9, weight_decay=0.0)


RATES = (0.1, 0.05, 0.025)
MOMENTUM, DECAY = 0.9, 0.01


def sgd(rate, w, g, decay, memory):
    g = g + decay * w
    memory["m"] = g + MOMENTUM * memory.get("m", 0)
    return w - rate * (g + MOMENTUM * memory["m"])


def adamw(rate, w, g, decay, memory):
    t = memory["t"] = memory.get("t", 0) + 1
    memory["m"] = MOMENTUM * memory.get("m", 0) + (1 - MOMENTUM) * g
    memory["v"] = 0.999 * memory.get("v", 0) + 0.001 * g**2
    m, v = memory["m"] / (1 - MOMENTUM**t), memory["v"] / (1 - 0.999**t)
    return w - rate * (m / (np.sqrt(v) + 1e-8) + decay * w)


def lars(rate, w, g, decay, memory):
    g = g + decay * w
    if decay:
        g = g * 0.001 * np.linalg.norm(w) / np.linalg.norm(g)
    memory["m"] = rate * g + MOMENTUM * memory.get("m", 0)
    return w - memory["m"]


def adagrad(rate, w, g, decay, memory):
    g = g + decay * w
    memory["h"] = memory.get("h", 0) + g**2
    return w - rate * g / np.sqrt(memory["h"] + 1e-7)


ORACLES = {"sgd": sgd, "adamw": adamw, "lars": lars, "adagrad": adagrad}


def test_every_optimizer_has_an_oracle():
    assert ORACLES.keys() == OPTIMIZERS.keys()


@pytest.mark.parametrize("weight_decay_mask", sorted(WEIGHT_DECAY_MASKS))
@pytest.mark.parametrize("name", sorted(ORACLES))
def test_three_steps(name, weight_decay_mask):
    rng = np.random.default_rng(0)
    params = {"layer": {"kernel": rng.standard_normal(64), "bias": rng.standard_normal(64)}}
    gradients = [jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape), params) for _ in RATES]
    # Where weight decay cancels the gradient, adaptive optimizers must not compute 0 / 0.
    gradients[0]["layer"]["kernel"][0] = -DECAY * params["layer"]["kernel"][0]

    expected, memory = jax.tree.map(np.copy, params), {"kernel": {}, "bias": {}}
    for rate, gradient in zip(RATES, gradients, strict=True):
        for leaf, weight in expected["layer"].items():
            decay = DECAY if weight_decay_mask == "all" or leaf == "kernel" else 0
            updated = ORACLES[name](rate, weight, gradient["layer"][leaf], decay, memory[leaf])
            expected["layer"][leaf] = updated

    optimizer = create_optimizer(
        name,
        lambda step: jnp.array(RATES)[step],
        momentum=MOMENTUM,
        weight_decay=DECAY,
        weight_decay_mask=weight_decay_mask,
    )
    now = jax.tree.map(jnp.float32, params)
    state = optimizer.init(now)
    for gradient in gradients:
        updates, state = optimizer.update(jax.tree.map(jnp.float32, gradient), state, now)
        now = optax.apply_updates(now, updates)
    # In single precision. Where gradient and decay cancel, Adagrad divides the rest by 3e-4.
    chex.assert_trees_all_close(now, expected, rtol=1e-5, atol=2e-6)


def test_clips_gradients_with_a_large_norm_only():
    settings = {"momentum": 0.0, "weight_decay": 0.0}
    optimizer = create_optimizer("sgd", lambda step: 1.0, clip_norm=2.0, **settings)
    params = {"a": {"kernel": jnp.zeros(2)}, "b": {"bias": jnp.zeros(1)}}
    state = optimizer.init(params)
    large = {"a": {"kernel": jnp.array([3.0, 0.0])}, "b": {"bias": jnp.array([4.0])}}
    updates, state = optimizer.update(large, state, params)
    chex.assert_trees_all_close(updates, jax.tree.map(lambda g: -g * 2 / 5, large), rtol=1e-6)
    small = jax.tree.map(lambda g: g / 10, large)
    updates, state = optimizer.update(small, state, params)
    chex.assert_trees_all_close(updates, jax.tree.map(lambda g: -g, small), rtol=1e-6)


def test_the_mask_of_kernels_excludes_batch_norm_and_biases():
    params = {"conv": {"kernel": 1.0}, "norm": {"scale": 1.0, "bias": 1.0}, "head": {"bias": 1.0}}
    assert WEIGHT_DECAY_MASKS["kernels"](params) == {
        "conv": {"kernel": True},
        "norm": {"scale": False, "bias": False},
        "head": {"bias": False},
    }
