"""Settings that are found again from updates of PyTorch's optimizers."""

import numpy as np
import pytest
import torch

from aff_jax.parity.training.update_fits import error_of, find_settings, rounding_of
from aff_jax.parity.training.update_rules import Recorded, settings_of
from tests.aff_jax.parity.training.optimizer_runs import record


def changed(expected, make, **options):
    """Return the rule and changes that are found if `expected` was declared."""
    recorded, _ = record(make, **options)
    fits = find_settings(*expected, recorded, "float64")
    return [(fit.rule, fit.changes) for fit in fits]


SGD = record(torch.optim.SGD, lr=0.1, momentum=0.9)[1]
ADAM = record(torch.optim.Adam, lr=0.1)[1]


def test_the_right_settings_leave_rounding_errors():
    recorded, expected = record(torch.optim.SGD, lr=0.1, momentum=0.9)
    assert error_of(*expected, recorded) <= rounding_of(recorded, "float64") < 1e-10
    wrong = {**expected[1], "momentum": 0.8}
    assert error_of("SGD", wrong, recorded) > 1e-3


def test_rounding_is_that_of_the_dtype():
    weights = np.array([[1.0, -2.0], [1.5, -2.0]])
    recorded = Recorded(np.zeros((1, 2)), weights, np.zeros(1))
    # 4 units of the largest weight, and 1024 of the largest update.
    assert rounding_of(recorded, "float32") == 2.0**-23 * (4 * 2 + 1024 * 0.5)


@pytest.mark.parametrize(
    "change",
    [{"momentum": 0.8}, {"lr": 0.2}, {"lr": 0.05, "momentum": 0.5}, {"weight_decay": 0.01}],
)
def test_one_or_two_changes_of_sgd_are_found(change):
    (found,) = changed(SGD, torch.optim.SGD, **{"lr": 0.1, "momentum": 0.9, **change})
    assert found[0] == "SGD"
    assert found[1] == pytest.approx(change, rel=1e-6)


def test_a_flag_is_found():
    found = changed(SGD, torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True)
    assert found == [("SGD", {"nesterov": True})]


def test_a_decay_of_adam_is_found():
    (found,) = changed(ADAM, torch.optim.Adam, lr=0.1, betas=(0.8, 0.999))
    assert found[1] == pytest.approx({"beta1": 0.8}, rel=1e-6)


def test_another_rule_is_found():
    (found,) = changed(SGD, torch.optim.Adam, lr=0.01, betas=(0.8, 0.99))
    assert found[0] == "Adam"
    assert found[1] == pytest.approx({"lr": 0.01, "beta1": 0.8, "beta2": 0.99}, rel=1e-5)


def test_a_learning_rate_per_step_is_found():
    recorded, _ = record(torch.optim.SGD, lr=1.0)
    factors = np.array([0.1, 0.05, 0.3])
    updates = -factors[:, None] * recorded.gradients
    weights = np.concatenate([np.zeros((1, 9)), np.cumsum(updates, 0)])
    _, settings = settings_of("SGD", {"lr": 0.1})
    (fit,) = find_settings("SGD", settings, recorded._replace(weights=weights), "float64")
    np.testing.assert_allclose(fit.changes["lr"], factors, rtol=1e-9)


def test_random_updates_have_no_settings():
    recorded, _ = record(torch.optim.SGD, lr=0.1)
    weights = np.random.default_rng(1).standard_normal(recorded.weights.shape)
    assert find_settings(*SGD, recorded._replace(weights=weights), "float64") == []
