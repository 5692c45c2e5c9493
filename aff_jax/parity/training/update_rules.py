"""Update rules of optimizers as functions of recorded gradients and weights.

A rule predicts each update from the gradients so far and the weights before it. Nothing else is
hidden in an optimizer, so the run is taken to have the settings that predict all recorded updates.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

__all__ = ["OWN_DEFAULTS", "RULES", "Recorded", "UpdateSettings", "predict", "settings_of"]

UpdateSettings = dict[str, Any]
"""Settings of a rule by name, such as "lr" and "momentum"."""

_DEFAULTS: UpdateSettings = {
    "lr": 0.0,
    "weight_decay": 0.0,
    "decoupled": False,
    "clip_norm": np.inf,
    "clip_value": np.inf,
}
"""Settings that every rule has."""

_ROOT: UpdateSettings = {"eps": 0.0, "eps_root": 0.0, "eps_inside": False}
"""Settings of the denominator, off where PyTorch's optimizer has none."""

OWN_DEFAULTS: dict[str, UpdateSettings] = {
    "SGD": {"momentum": 0.0, "dampening": 0.0, "nesterov": False},
    "Adam": {"beta1": 0.9, "beta2": 0.999, **_ROOT, "bias_correction": True, "nesterov": False},
    "RMSprop": {"alpha": 0.99, **_ROOT, "momentum": 0.0},
    "Adagrad": {"initial_accumulator_value": 0.0, **_ROOT},
}
"""Settings of each rule, and their values where PyTorch's optimizer has no such setting."""


class Recorded(NamedTuple):
    """Recorded arrays of one side, for some weights.

    Attributes:
        gradients: Samples `(steps, size)`.
        weights: Samples `(steps + 1, size)`.
        norms: Norm of all gradients of each step, `(steps,)`.
    """

    gradients: np.ndarray
    weights: np.ndarray
    norms: np.ndarray


def predict(rule: str, settings: UpdateSettings, recorded: Recorded) -> np.ndarray:
    """Predict the update of each step.

    With the gradient g, clipped, and the weight w, this is::

        d = g + weight_decay * w                      or d = g, if the decay is decoupled
        update = -lr * rule(d)  [- lr * weight_decay * w, if the decay is decoupled]

    Args:
        rule: Key of `RULES`.
        settings: Settings of the rule.
        recorded: Gradients and weights.

    Returns:
        Updates `(steps, size)`.
    """
    before = recorded.weights[:-1]
    norms = np.maximum(recorded.norms, np.finfo(float).tiny)[:, None]
    gradients = recorded.gradients * np.minimum(1.0, settings["clip_norm"] / norms)
    gradients = np.clip(gradients, -settings["clip_value"], settings["clip_value"])
    decay = settings["weight_decay"] * before
    if settings["decoupled"]:
        return -settings["lr"] * (RULES[rule](settings, gradients) + decay)
    return -settings["lr"] * RULES[rule](settings, gradients + decay)


def settings_of(optimizer_name: str, group: Mapping[str, Any]) -> tuple[str, UpdateSettings] | None:
    """Return the rule and the settings of a parameter group of a PyTorch optimizer.

    Args:
        optimizer_name: Class of the optimizer.
        group: The group.

    Returns:
        Key of `RULES` and settings, or None if the rule is not known.
    """
    rule = {"AdamW": "Adam"}.get(optimizer_name, optimizer_name)
    if rule not in RULES or group.get("amsgrad") or group.get("centered") or group.get("lr_decay"):
        return None
    settings = {
        **_DEFAULTS,
        **OWN_DEFAULTS[rule],
        **{name: value for name, value in group.items() if name in OWN_DEFAULTS[rule]},
        "lr": float(group["lr"]) * (-1 if group.get("maximize") else 1),
        "weight_decay": float(group.get("weight_decay", 0.0)),
        "decoupled": optimizer_name == "AdamW" or bool(group.get("decoupled_weight_decay")),
    }
    if "betas" in group:
        settings["beta1"], settings["beta2"] = map(float, group["betas"])
    return rule, settings


def _sgd(settings: UpdateSettings, d: np.ndarray) -> np.ndarray:
    """Compute b, or with Nesterov momentum d + momentum * b.

    b <- momentum * b + (1 - dampening) * d, and it starts with b = d.
    """
    updates, b = np.empty_like(d), d[0]
    for t, direction in enumerate(d):
        if t:
            b = settings["momentum"] * b + (1 - settings["dampening"]) * direction
        nesterov = direction + settings["momentum"] * b
        updates[t] = nesterov if settings["nesterov"] else b
    return updates


def _adam(settings: UpdateSettings, d: np.ndarray) -> np.ndarray:
    """Compute m_hat / (sqrt(v_hat + eps_root) + eps).

    m <- beta1 m + (1 - beta1) d,  m_hat = m / (1 - beta1^t)
    v <- beta2 v + (1 - beta2) d^2,  v_hat = v / (1 - beta2^t)

    With Nesterov momentum, m_hat = beta1 m / (1 - beta1^(t + 1)) + (1 - beta1) d / (1 - beta1^t).
    """
    beta1, beta2 = settings["beta1"], settings["beta2"]
    updates, m, v = np.empty_like(d), np.zeros_like(d[0]), np.zeros_like(d[0])
    for t, direction in enumerate(d, start=1):
        m = beta1 * m + (1 - beta1) * direction
        v = beta2 * v + (1 - beta2) * direction**2
        # Factors of the bias correction: of m, of v, and of m one step later.
        now, square, later = 1 - beta1**t, 1 - beta2**t, 1 - beta1 ** (t + 1)
        if not settings["bias_correction"]:
            now = square = later = 1.0
        m_hat, v_hat = m / now, v / square
        if settings["nesterov"]:
            m_hat = beta1 * m / later + (1 - beta1) * direction / now
        updates[t - 1] = m_hat / _root(settings, v_hat)
    return updates


def _rmsprop(settings: UpdateSettings, d: np.ndarray) -> np.ndarray:
    """Compute b <- momentum * b + d / (sqrt(v + eps_root) + eps), where v is the mean square of d.

    v <- alpha * v + (1 - alpha) * d^2
    """
    updates, v, b = np.empty_like(d), np.zeros_like(d[0]), np.zeros_like(d[0])
    for t, direction in enumerate(d):
        v = settings["alpha"] * v + (1 - settings["alpha"]) * direction**2
        b = settings["momentum"] * b + direction / _root(settings, v)
        updates[t] = b
    return updates


def _adagrad(settings: UpdateSettings, d: np.ndarray) -> np.ndarray:
    """Compute d / (sqrt(sum of squares + eps_root) + eps)."""
    squares = settings["initial_accumulator_value"] + np.cumsum(d**2, axis=0)
    return d / _root(settings, squares)


def _root(settings: UpdateSettings, square: np.ndarray) -> np.ndarray:
    """Return the denominator of adaptive rules."""
    inside = settings["eps_root"] + settings["eps"] * settings["eps_inside"]
    root = np.sqrt(square + inside) + settings["eps"] * (not settings["eps_inside"])
    return np.maximum(root, np.finfo(float).tiny)


RULES: dict[str, Callable[[UpdateSettings, np.ndarray], np.ndarray]] = {
    "SGD": _sgd,
    "Adam": _adam,
    "RMSprop": _rmsprop,
    "Adagrad": _adagrad,
}
"""Rules by the name of PyTorch's class."""
