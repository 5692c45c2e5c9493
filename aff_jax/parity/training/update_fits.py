"""Find the settings of an optimizer from recorded gradients and weights."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from aff_jax.parity.training.update_rules import OWN_DEFAULTS, Recorded, UpdateSettings, predict

__all__ = ["Fit", "error_of", "find_settings", "rounding_of"]

_EXPLAINED = 1e-3
"""Largest share of a difference that an explanation may leave."""

_FLAGS = ("nesterov", "decoupled", "bias_correction", "eps_inside")
"""Settings that are on or off."""

_STARTS: dict[str, tuple[float, ...]] = {
    "momentum": (0.5, 0.9),
    "dampening": (0.5,),
    "weight_decay": (1e-3,),
    "beta1": (0.5, 0.9, 0.99),
    "beta2": (0.9, 0.99, 0.999),
    "alpha": (0.9, 0.99),
    "eps": (1e-8, 1e-5, 1e-2),
    "eps_root": (1e-16, 1e-8, 1e-4),
    "initial_accumulator_value": (0.1,),
}
"""Values at which the search for a setting starts. The others start at values of the recording."""

_DECAYS = ("beta1", "beta2", "alpha")
"""Settings whose distance from 1 is searched on a logarithmic scale."""

_POSITIVE = ("eps", "eps_root", "clip_norm", "clip_value")
"""Settings that are searched on a logarithmic scale."""

_SEARCHED = {
    "SGD": ("lr", "momentum"),
    "Adam": ("lr", "beta1", "beta2"),
    "RMSprop": ("lr", "alpha"),
    "Adagrad": ("lr",),
}
"""Settings of each rule that are searched if the optimizer is one of another kind."""


class Fit(NamedTuple):
    """Settings that explain recorded updates.

    Attributes:
        rule: The rule.
        changes: Settings that differ from those that were expected.
        error: Largest difference of a predicted update.
    """

    rule: str
    changes: UpdateSettings
    error: float


def rounding_of(recorded: Recorded, dtype: str) -> float:
    """Return the largest error of an update that rounding explains.

    Args:
        recorded: Gradients and weights.
        dtype: Dtype that the weights have.

    Returns:
        Largest error of one update that rounding explains, in the unit of the weights.
    """
    updates = np.diff(recorded.weights, axis=0)
    largest = np.max(np.abs(recorded.weights), initial=0)
    return float(np.finfo(dtype).eps * (4 * largest + 1024 * np.max(np.abs(updates), initial=0)))


def error_of(rule: str, settings: UpdateSettings, recorded: Recorded) -> float:
    """Return the largest difference between predicted and recorded updates.

    Args:
        rule: The rule.
        settings: Its settings.
        recorded: Gradients and weights.

    Returns:
        Largest absolute difference over all updates and weights, in the unit of the weights.
    """
    with np.errstate(all="ignore"):
        difference = predict(rule, settings, recorded) - np.diff(recorded.weights, axis=0)
    return float(np.max(np.abs(difference), initial=0))


def find_settings(rule: str, settings: UpdateSettings, recorded: Recorded, dtype: str) -> list[Fit]:
    """Find the smallest change of the settings that explains the recorded updates.

    One change is tried first, then two, then another rule.

    Args:
        rule: Rule that was expected.
        settings: Settings that were expected.
        recorded: Gradients and weights.
        dtype: Dtype that the weights have.

    Returns:
        All changes of the smallest number that explain the updates. Empty if there is none.
    """
    bound = rounding_of(recorded, dtype)
    loose = max(bound, _EXPLAINED * error_of(rule, settings, recorded))
    approximate: list[Fit] = []
    for fits in _list_fits(rule, settings, recorded):
        best = min((fit.error for fit in fits), default=np.inf)
        close = [fit for fit in fits if fit.error <= max(bound, 10 * best)]
        if best <= bound:
            return close
        # A formula that differs a little, as PyTorch's norm with 1e-6 added, is not an exact match.
        if best <= loose and not approximate:
            approximate = close
    return approximate


def _list_fits(rule: str, settings: UpdateSettings, recorded: Recorded) -> Iterator[list[Fit]]:
    """Yield fits of one change, of a learning rate per step, of two changes, and of other rules."""
    scalars = [name for name in ("lr", *_STARTS, "clip_norm", "clip_value") if name in settings]
    names = [*scalars, *(name for name in _FLAGS if name in settings)]
    for number in (1, 2):
        fits = [
            _fit(rule, settings, recorded, some) for some in itertools.combinations(names, number)
        ]
        yield [fit for fit in fits if fit]
        if number == 1:
            yield [_fit_schedule(rule, settings, recorded)]
    for other, searched in _SEARCHED.items():
        if other != rule:
            start = {**settings, **OWN_DEFAULTS[other], "weight_decay": 0.0, "decoupled": False}
            fit = _fit(other, start, recorded, searched)
            yield [fit] if fit else []


def _fit_schedule(rule: str, settings: UpdateSettings, recorded: Recorded) -> Fit:
    """Search one learning rate per step."""
    steps = predict(rule, settings, recorded)
    updates = np.diff(recorded.weights, axis=0)
    squares = np.maximum(np.sum(steps**2, 1), np.finfo(float).tiny)
    factors = np.sum(steps * updates, 1) / squares
    error = float(np.max(np.abs(factors[:, None] * steps - updates), initial=0))
    return Fit(rule, {"lr": factors * settings["lr"]}, error)


def _fit(
    rule: str, settings: UpdateSettings, recorded: Recorded, names: Sequence[str]
) -> Fit | None:
    """Toggle the flags among `names` and search the other settings."""
    toggled = {name: not settings[name] for name in names if name in _FLAGS}
    scalars = [name for name in names if name not in _FLAGS]
    settings = {**settings, **toggled}
    best: Fit | None = None
    for start in _starts(scalars, settings, recorded):
        found = _search(rule, settings, recorded, start)
        error = error_of(rule, {**settings, **found}, recorded)
        if np.isfinite(error) and (best is None or error < best.error):
            best = Fit(rule, {**found, **toggled}, error)
    return best and _shorten(best, settings, recorded)


def _shorten(fit: Fit, settings: UpdateSettings, recorded: Recorded) -> Fit:
    """Round values to the fewest digits that explain the updates as well."""
    for name, value in fit.changes.items():
        for digits in (0, 1, 2, 3, 4) if name not in _FLAGS else ():
            rounded = float(f"{value:.{digits - 1}e}") if digits else 0.0
            changes = {**fit.changes, name: rounded}
            error = error_of(fit.rule, {**settings, **changes}, recorded)
            if error <= 2 * fit.error:
                fit = Fit(fit.rule, changes, max(error, fit.error))
                break
    return fit


def _starts(
    names: Sequence[str], settings: UpdateSettings, recorded: Recorded
) -> Iterator[UpdateSettings]:
    """Yield the values at which the search for some settings starts."""
    sizes = np.abs(recorded.gradients)
    near = {
        "clip_norm": (0.5 * recorded.norms.min(), 0.5 * recorded.norms.max()),
        "clip_value": tuple(np.quantile(sizes, (0.5, 0.9, 0.99))),
        "lr": (settings["lr"],),
    }
    tables = [{**_STARTS, **near}[name] for name in names]
    for values in itertools.product(*tables):
        yield dict(zip(names, (max(float(v), 1e-30) for v in values), strict=True))


def _search(
    rule: str, settings: UpdateSettings, recorded: Recorded, start: UpdateSettings
) -> UpdateSettings:
    """Minimize the squared error of the predicted updates by the Gauss-Newton method."""
    names = list(start)
    if not names:
        return {}
    target = np.diff(recorded.weights, axis=0)

    def decode(point: np.ndarray) -> UpdateSettings:
        """Return the settings of a point."""
        return {name: _decode(name, float(x)) for name, x in zip(names, point, strict=True)}

    def residual(point: np.ndarray) -> np.ndarray:
        """Return the errors of the updates that the settings of a point predict."""
        with np.errstate(all="ignore"):
            values = predict(rule, {**settings, **decode(point)}, recorded) - target
        # Their squares must not overflow.
        return np.clip(np.nan_to_num(values, nan=1e30), -1e30, 1e30).ravel()

    point = np.array([_encode(name, start[name]) for name in names])
    current = residual(point)
    for _ in range(30):
        widths = 1e-6 * np.maximum(1e-2, np.abs(point))
        slopes = [
            (residual(point + width * axis) - residual(point - width * axis)) / (2 * width)
            for width, axis in zip(widths, np.eye(len(point)), strict=True)
        ]
        step = -np.linalg.lstsq(np.stack(slopes, 1), current, rcond=None)[0]
        for _ in range(8):
            new = residual(point + step)
            if new @ new < current @ current:
                break
            step = step / 4
        else:
            break
        point, current = point + step, new
    return decode(point)


def _encode(name: str, value: float) -> float:
    """Map a setting to the scale on which it is searched."""
    if name in _DECAYS:
        return float(np.log1p(-value))
    return float(np.log(value)) if name in _POSITIVE else value


def _decode(name: str, x: float) -> float:
    """Undo `_encode`."""
    if name in _DECAYS:
        return float(1 - np.exp(np.minimum(x, 0)))
    return float(np.exp(np.clip(x, -700, 700))) if name in _POSITIVE else x
