"""Rules of optimizers, compared with PyTorch's optimizers in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from aff_jax.parity.training.update_rules import OWN_DEFAULTS, RULES, Recorded, predict, settings_of
from tests.aff_jax.parity.training.optimizer_runs import record

OPTIMIZERS = {
    "SGD": (torch.optim.SGD, {"lr": 0.1}),
    "momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    "Nesterov": (
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ),
    "maximize": (torch.optim.SGD, {"lr": 0.1, "maximize": True}),
    "Adam": (torch.optim.Adam, {"lr": 0.1, "betas": (0.8, 0.95), "weight_decay": 0.1}),
    "AdamW": (torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.1, "eps": 1e-3}),
    "RMSprop": (torch.optim.RMSprop, {"lr": 0.1, "alpha": 0.8, "momentum": 0.5}),
    "Adagrad": (torch.optim.Adagrad, {"lr": 0.1, "initial_accumulator_value": 0.2}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rules_predict_the_updates_of_pytorch(name):
    make, options = OPTIMIZERS[name]
    recorded, (rule, settings) = record(make, steps=4, **options)
    updates = predict(rule, settings, recorded)
    np.testing.assert_allclose(updates, np.diff(recorded.weights, axis=0), rtol=1e-9, atol=1e-14)


def test_nesterov_and_missing_bias_correction_in_adam():
    """Compare with optax, since PyTorch's NAdam also changes its momentum."""
    recorded, (_, settings) = record(torch.optim.Adam, lr=0.1)
    with jax.enable_x64(True):
        optimizer = optax.nadam(0.1)
        state, updates = optimizer.init(recorded.weights[0]), []
        for gradient in recorded.gradients:
            update, state = optimizer.update(jnp.asarray(gradient), state)
            updates.append(np.asarray(update))
    predicted = predict("Adam", {**settings, "nesterov": True}, recorded)
    np.testing.assert_allclose(predicted, updates, rtol=1e-6)
    # Without correction, the first moments are (1 - beta1) * g and (1 - beta2) * g^2.
    first = predict("Adam", {**settings, "bias_correction": False}, recorded)[0]
    expected = -0.1 * 0.1 / 0.001**0.5 * np.sign(recorded.gradients[0])
    np.testing.assert_allclose(first, expected, rtol=1e-5)


def test_clipping():
    recorded = Recorded(np.array([[3.0, -4.0]]), np.zeros((2, 2)), np.array([5.0]))
    _, settings = settings_of("SGD", {"lr": 1.0})
    by_norm = predict("SGD", {**settings, "clip_norm": 1.0}, recorded)
    np.testing.assert_allclose(by_norm, [[-0.6, 0.8]], rtol=1e-12)
    by_value = predict("SGD", {**settings, "clip_value": 3.5}, recorded)
    np.testing.assert_array_equal(by_value, [[-3.0, 3.5]])


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("Adam", {"lr": 0.1, "amsgrad": True}),
        ("RMSprop", {"lr": 0.1, "centered": True}),
        ("Adagrad", {"lr": 0.1, "lr_decay": 0.1}),
        ("Adadelta", {"lr": 0.1}),
    ],
)
def test_unknown_rules(name, group):
    assert settings_of(name, group) is None


def test_each_rule_has_defaults():
    assert RULES.keys() == OWN_DEFAULTS.keys()
