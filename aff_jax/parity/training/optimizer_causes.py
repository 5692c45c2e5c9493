"""Explain in which settings the optimizers of both sides differ."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aff_jax.parity.array_differences import best_factor
from aff_jax.parity.training.samples import Samples, Side
from aff_jax.parity.training.update_fits import Fit, error_of, find_settings, rounding_of
from aff_jax.parity.training.update_rules import RULES, Recorded, UpdateSettings, settings_of

__all__ = ["explain_optimizers", "is_judged", "list_some"]

_COLUMNS = 4096
"""Number of values that settings are searched with; each of many settings takes a pass of them."""

_FLAG_NAMES = {
    "nesterov": ("plain momentum", "Nesterov's momentum"),
    "decoupled": (
        "weight decay added to the gradient (L2, as in torch.optim.Adam)",
        "decoupled weight decay (as in AdamW)",
    ),
    "bias_correction": ("no bias correction", "bias correction"),
    "eps_inside": ("eps outside of the square root", "eps inside of the square root"),
}
"""Names of a setting that is off, and that is on."""

_Group = tuple[str, tuple[tuple[str, Any], ...]]
"""A rule and its settings."""


def explain_optimizers(samples: Samples, dtype: str) -> list[str]:
    """Explain the updates of both sides by settings of PyTorch's optimizer.

    Each side is judged by its own gradients and weights, so mistakes elsewhere don't matter.

    Args:
        samples: Samples of both sides.
        dtype: Dtype of the training.

    Returns:
        Sentences. The list is empty if both sides update as PyTorch's settings say.
    """
    without_gradient = _explain_missing_gradients(samples)
    sentences = [*without_gradient]
    for who, side in (("PyTorch", samples.torch), ("JAX", samples.jax)):
        frozen: list[str] = []
        groups: dict[_Group, list[str]] = {}
        total = 0
        for name in side.gradients:
            if not is_judged(samples, name):
                continue
            found = settings_of(samples.optimizer_name, samples.settings[name])
            if found is None:
                return sentences or _explain_by_ratios(samples)
            total += 1
            recorded = _record(side, [name])
            if error_of(*found, recorded) <= rounding_of(recorded, dtype):
                continue
            if not np.diff(recorded.weights, axis=0).any():
                frozen.append(name)
            else:
                groups.setdefault((found[0], tuple(found[1].items())), []).append(name)
        if frozen:
            sentences.append(
                f"{who}'s optimizer does not update {list_some(frozen, total)}, which "
                f"{'PyTorch' if who == 'JAX' else 'JAX'}'s gradients would change: it is frozen or "
                f"masked there. Freeze the same weights on both sides."
            )
        for (rule, items), names in groups.items():
            sentences += _explain_group(who, rule, dict(items), side, names, total, dtype)
    return sentences


def is_judged(samples: Samples, name: str) -> bool:
    """Return whether the updates of a weight tell the settings of its optimizer.

    Args:
        samples: Samples of both sides.
        name: Name of the weight.

    Returns:
        False without a gradient, outside of PyTorch's optimizer, if the gradient is a rounding
        error, and for one of two biases that are added.
    """
    is_known = _has_gradients(samples, name) and name in samples.settings
    return is_known and name not in samples.rounding_only | samples.summed


def list_some(names: Sequence[str], total: int | None = None) -> str:
    """Return the number of names and the first of them.

    Args:
        names: The names.
        total: Number of all names. None leaves it out.

    Returns:
        The text, such as "2 of 9 weights (fc.weight, fc.bias)".
    """
    of = "" if total is None else f"{len(names)} of {total} weights "
    if total == len(names):
        return f"all {total} weights"
    return f"{of}({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def _has_gradients(samples: Samples, name: str) -> bool:
    """Return whether a weight has a gradient in every step on both sides."""
    return all(
        gradient is not None
        for side in (samples.torch, samples.jax)
        for gradient in side.gradients.get(name, [None])
    )


def _record(side: Side, names: Sequence[str]) -> Recorded:
    """Collect the samples of some weights, and draw at most `_COLUMNS` values."""
    gradients = np.concatenate([np.stack(side.gradients[name]) for name in names], axis=1)  # type: ignore[arg-type]
    weights = np.concatenate([np.stack(side.weights[name]) for name in names], axis=1)
    if gradients.shape[1] > _COLUMNS:
        columns = np.random.default_rng(0).choice(gradients.shape[1], _COLUMNS, replace=False)
        gradients, weights = gradients[:, columns], weights[:, columns]
    return Recorded(gradients, weights, np.array(side.norms))


def _explain_missing_gradients(samples: Samples) -> list[str]:
    """Explain weights that PyTorch skips, because they have no gradient, and JAX updates."""
    updated: dict[str, list[str]] = {}
    for name, gradients in samples.torch.gradients.items():
        if name in samples.summed:
            continue
        weights = np.stack(samples.jax.weights[name])
        absent = all(gradient is None for gradient in gradients)
        if (absent or name not in samples.settings) and np.diff(weights, axis=0).any():
            zero = not any(np.any(g) for g in samples.jax.gradients[name] if g is not None)
            why = "absent" if name not in samples.settings else "zero" if zero else "frozen"
            updated.setdefault(why, []).append(name)
    texts = {
        "zero": "PyTorch has no gradient and JAX a zero gradient for {}. PyTorch's optimizer "
        "skips such weights, and optax decays them. Mask them with optax.masked.",
        "frozen": "PyTorch has no gradient for {}, and JAX has one and updates them. In PyTorch "
        "they have requires_grad=False or are detached from the loss. Freeze them in optax, as "
        "with optax.multi_transform and optax.set_to_zero.",
        "absent": "PyTorch's optimizer was not given {}, and JAX updates them.",
    }
    return [
        texts[why].format(f"{len(names)} weights {list_some(names)}")
        for why, names in updated.items()
    ]


def _explain_group(
    who: str,
    rule: str,
    settings: UpdateSettings,
    side: Side,
    names: Sequence[str],
    total: int,
    dtype: str,
) -> list[str]:
    """Explain the updates of weights that share settings, on the side `who`."""
    recorded = _record(side, names)
    fits = find_settings(rule, settings, recorded, dtype)
    if fits:
        return [_write_difference(who, rule, settings, fits, recorded, list_some(names, total))]
    # Perhaps weights with one axis, such as biases and scales of norms, are treated differently.
    parts: dict[str, tuple[list[Fit], list[str]]] = {}
    for name in names[: _COLUMNS // 64]:
        found = find_settings(rule, settings, _record(side, [name]), dtype)
        key = ", ".join(_write_fit(fit, settings, rule) for fit in found[:1])
        parts.setdefault(key, (found, []))[1].append(name)
    if "" not in parts and len(parts) <= 4:
        return [
            _write_difference(
                who, rule, settings, found, _record(side, some), list_some(some, total)
            )
            for found, some in parts.values()
        ]
    error = error_of(rule, settings, recorded)
    return [
        f"{who}'s updates of {list_some(names, total)} do not follow PyTorch's {rule} "
        f"({_write_main_settings(settings)}): they are off by up to {error:.1e}. Ruled out: one or "
        f"two other settings, and the rules of {', '.join(RULES)} without weight decay. Compare "
        f"the transformations of both optimizers one by one."
    ]


def _write_difference(
    who: str,
    rule: str,
    settings: UpdateSettings,
    fits: Sequence[Fit],
    recorded: Recorded,
    where: str,
) -> str:
    """Write which settings explain the updates, and which were expected."""
    shown = " or ".join(_write_fit(fit, settings, rule) for fit in fits[:3])
    changed = dict.fromkeys(name for fit in fits[:3] for name in fit.changes)
    expected = ", ".join(
        _write_setting(name, settings[name]) for name in changed if name in settings
    )
    if fits[0].rule != rule:
        expected = f"{rule} with {_write_main_settings(settings)}"
    norms = ""
    if "clip_norm" in fits[0].changes:
        norms = f" The norms of all gradients are {', '.join(f'{n:.4g}' for n in recorded.norms)}."
    several = (
        " More steps would tell these apart." if len(fits) > 1 and len(recorded.norms) < 3 else ""
    )
    error = error_of(rule, settings, recorded)
    declared = "PyTorch's optimizer has" if who == "JAX" else "its optimizer states"
    return (
        f"The optimizers differ: {who}'s updates of {where} follow {shown}, and {declared} "
        f"{expected}. The recorded gradients then give the updates up to {fits[0].error:.0e} "
        f"instead of {error:.0e}.{norms}{several} Give both sides the same settings."
    )


def _write_fit(fit: Fit, settings: UpdateSettings, rule: str) -> str:
    """Write the settings that a fit changed."""
    parts = [_write_setting(name, value) for name, value in fit.changes.items()]
    if "lr" in fit.changes and settings["lr"] and np.ndim(fit.changes["lr"]) == 0:
        ratio = float(fit.changes["lr"]) / settings["lr"]
        text = f"{ratio:.4g} times as large" if ratio > 0 else "of the opposite sign"
        if abs(ratio - 1) > 1e-4:
            parts[list(fit.changes).index("lr")] += f" ({text})"
    return f"{fit.rule} with {', '.join(parts)}"


def _write_setting(name: str, value: Any) -> str:
    """Write one setting and its value."""
    if name in _FLAG_NAMES:
        return _FLAG_NAMES[name][bool(value)]
    if name.startswith("clip_"):
        what = "a norm" if name == "clip_norm" else "absolute values"
        if value == np.inf:
            return "no clipping"
        return f"gradients clipped to {what} of {value:.4g}"
    if np.ndim(value):
        return f"a learning rate of {', '.join(f'{v:.4g}' for v in value)} in each step"
    return f"{name}={value:.4g}"


def _write_main_settings(settings: Mapping[str, Any]) -> str:
    """Write the main settings of an optimizer."""
    shown = ("lr", "momentum", "dampening", "beta1", "beta2", "eps", "weight_decay")
    return ", ".join(f"{name}={settings[name]:.4g}" for name in shown if settings.get(name))


def _explain_by_ratios(samples: Samples) -> list[str]:
    """Compare the first updates of an optimizer whose rule is not known."""
    names = [name for name in samples.jax.gradients if _has_gradients(samples, name)]
    torch_updates, jax_updates = (
        np.concatenate([side.weights[n][1] - side.weights[n][0] for n in names])
        for side in (samples.torch, samples.jax)
    )
    before = np.concatenate([samples.torch.weights[name][0] for name in names])
    kind = samples.optimizer_name
    for what, column in (("factor", torch_updates), ("decay", before)):
        target = jax_updates if what == "factor" else jax_updates - torch_updates
        value = best_factor(column, target)
        error, size = np.max(np.abs(value * column - target)), np.max(np.abs(target))
        if error <= 1e-6 * size and abs(value - (what == "factor")) > 1e-6:
            if what == "factor":
                return [
                    f"The optimizers differ: in the first step, JAX's updates are {value:.4g} "
                    f"times the updates of PyTorch's {kind}, probably because of the learning rate."
                ]
            return [
                f"The optimizers differ: in the first step, JAX's updates are the updates of "
                f"PyTorch's {kind} plus {value:.2e} times the weights, probably because of weight "
                f"decay."
            ]
    difference = float(np.max(np.abs(jax_updates - torch_updates), initial=0))
    if difference <= 1e-6 * np.max(np.abs(torch_updates), initial=0):
        return [
            f"The first updates agree and later ones differ, so probably the decays of the moments "
            f"of {kind} differ, such as momentum or betas."
        ]
    return [
        f"The first updates differ by up to {difference:.1e}, by no constant factor and by no "
        f"multiple of the weights. The rule of {kind} is not known to compare_step."
    ]
