"""Explain why the training steps of two networks differ."""

from collections.abc import Mapping, Sequence

import numpy as np

from aff_jax.parity.array_differences import best_factor, largest_difference
from aff_jax.parity.layouts import align
from aff_jax.parity.training.optimizer_causes import explain_optimizers, is_judged, list_some
from aff_jax.parity.training.samples import Samples
from aff_jax.parity.training.statistics_causes import explain_statistics
from aff_jax.parity.training.step_parity import StepRow

__all__ = ["explain_steps"]

_CLOSE = {"float32": 1e-3, "float64": 1e-8}
"""Largest relative error of a factor, and of outputs that are equal."""


def explain_steps(samples: Samples, rows: Sequence[StepRow], dtype: str) -> str:
    """Explain the differences between two trainings.

    The forward pass, the running statistics and the optimizer are judged separately, each by what
    went into it, so that several mistakes are named at once.

    Args:
        samples: Samples of both sides.
        rows: The compared arrays.
        dtype: Dtype of the training.

    Returns:
        Sentences.
    """
    different = [row for row in rows if row.differs]
    initial = [row for row in different if row.step == 0]
    sentences = []
    if initial:
        worst = max(initial, key=lambda row: row.max_abs)
        sentences.append(
            f"The networks differ before the first step, in {len(initial)} arrays. The largest "
            f"difference is {worst.max_abs:.1e}, at {worst.name}. Pass variables=None to convert "
            f"the weights of the PyTorch module."
        )
    elif any(row.kind in ("loss", "gradient") and row.step == 1 for row in different):
        sentences += _explain_gradients(samples, different, dtype)
    if any(row.kind == "statistic" for row in different):
        sentences += explain_statistics(samples, dtype)
    if any(row.name in samples.summed and row.step for row in different):
        names = sorted(samples.summed)
        sentences.append(
            f"PyTorch adds the biases {list_some(names)} in pairs and trains both, so their sum "
            f"changes twice as fast as the one bias of JAX. Freeze one of each pair in PyTorch, as "
            f"with `cell.bias_hh_l0.requires_grad_(False)`."
        )
    if any(row.kind in ("weight", "moment") for row in different):
        sentences += explain_optimizers(samples, dtype)
        if not sentences and all(row.kind == "moment" for row in different):
            sentences.append(_explain_moments(different))
    if not sentences:
        first = different[0]
        sentences.append(
            f"The first difference is the {first.kind} {first.name} in step {first.step}, "
            f"{first.max_abs:.1e}.{_rule_out_optimizers(samples, dtype)} Compare the activations "
            f"with parity.compare."
        )
    return " ".join(sentences)


def _rule_out_optimizers(samples: Samples, dtype: str) -> str:
    """Say that the optimizers follow their settings, if that can be said."""
    judged = [name for name in samples.jax.gradients if is_judged(samples, name)]
    if not judged or explain_optimizers(samples, dtype):
        return ""
    return " The optimizers are ruled out: the recorded gradients give the updates of both sides."


def _explain_moments(different: Sequence[StepRow]) -> str:
    """Explain states of the optimizer that differ although all weights agree."""
    first = different[0]
    return (
        f"All weights agree and only states of the optimizer differ, first {first.name} by "
        f"{first.max_abs:.1e}. The optimizers keep them in another scale, as where optax scales by "
        f"the learning rate before the momentum. This matters once the learning rate changes."
    )


def _explain_gradients(samples: Samples, different: Sequence[StepRow], dtype: str) -> list[str]:
    """Explain a different loss or different gradients in the first step."""
    close = _CLOSE[dtype]
    losses = samples.torch.losses[0], samples.jax.losses[0]
    if not np.isfinite(losses).all():
        return [f"The loss is {losses[0]:.4g} in PyTorch and {losses[1]:.4g} in JAX."]
    gap = _outputs_gap(samples)
    if gap is not None and gap > close:
        return [
            f"The outputs of the networks in training mode differ by {gap:.1e} of their largest "
            f"value in the first step, so loss and gradients do. Compare the activations with "
            f"parity.compare. If they agree there, training mode differs: batch norms that use "
            f"running statistics on one side, or dropout."
        ]
    same = "The outputs agree" if gap is not None else "The weights agree"
    ratios = _gradient_ratios(samples, close)
    values = [ratio for ratio in ratios.values() if ratio is not None]
    factor = float(np.median(values)) if values else 1.0
    off = [row.name for row in different if row.kind == "gradient" and row.step == 1]
    is_loss_equal = abs(losses[1] - losses[0]) <= close * abs(losses[0])
    uniform = len(values) == len(ratios) and np.ptp(values) <= close * abs(factor)
    if uniform and values and abs(factor - 1) > close:
        if is_loss_equal:
            norms = samples.torch.norms[0], samples.jax.norms[0]
            return [
                f"{same} and so does the loss, but all gradients of JAX are {factor:.6g} times "
                f"PyTorch's (norms {norms[1]:.4g} and {norms[0]:.4g}): they are scaled or clipped "
                f"on one side before the optimizer."
            ]
        if abs(losses[1] - factor * losses[0]) <= close * abs(losses[1]):
            return [
                f"{same}, but JAX's loss and all gradients are {factor:.6g} times PyTorch's."
                f"{_explain_factor(factor, samples)}"
            ]
    decay = _find_penalty(samples, close)
    if decay is not None:
        return [
            f"{same}, and JAX's gradients are PyTorch's and {decay:.4g} times the weights: the "
            f"loss has a penalty of {abs(decay) / 2:.4g} times the squared weights on one side."
        ]
    if not is_loss_equal:
        return [
            f"{same}, but the loss is {losses[1]:.6g} in JAX and {losses[0]:.6g} in PyTorch, and "
            f"the gradients differ by no constant factor. The loss functions or their targets "
            f"differ, as in label smoothing, weights of classes or the order of the labels."
        ]
    return _explain_some_gradients(samples, ratios, off, same)


def _explain_some_gradients(
    samples: Samples, ratios: Mapping[str, float | None], off: Sequence[str], same: str
) -> list[str]:
    """Explain gradients that differ though the losses agree."""
    sentences = []
    for names in samples.tied:
        if set(names) & set(off):
            listed = " and ".join(f"`{name}`" for name in names)
            sentences.append(
                f"{same} and so does the loss, but {listed} are one weight in PyTorch and "
                f"{len(names)} weights in JAX. PyTorch's gradient is the sum of both. Tie them in "
                f"JAX, as with `nn.Embed.attend`."
            )
            off = [name for name in off if name not in names]
    for name in [name for name in off if name in samples.padding]:
        sentences.append(
            f"{same} and so does the loss, but the gradient of {name} differs. PyTorch's embedding "
            f"has padding_idx={samples.padding[name]}, so that row gets no gradient, and Flax's "
            f"nn.Embed has no such field. Set the gradient of the row to zero in JAX."
        )
        off = [other for other in off if other != name]
    for who, side, other in (
        ("JAX", samples.jax, samples.torch),
        ("PyTorch", samples.torch, samples.jax),
    ):
        zero = [
            name
            for name in off
            if side.gradients[name][0] is not None
            and not np.any(side.gradients[name][0])
            and np.any(other.gradients[name][0] if other.gradients[name][0] is not None else 0)
        ]
        if zero:
            how = "jax.lax.stop_gradient" if who == "JAX" else "detach"
            sentences.append(
                f"{same}, but {who}'s gradient of {list_some(zero, len(ratios))} is zero, and the "
                f"other side's is not. Look for {how} on the way from the loss."
            )
    rest = [
        name
        for name in off
        if samples.torch.gradients[name][0] is not None
        and np.any(samples.torch.gradients[name][0])
        and np.any(samples.jax.gradients[name][0])
    ]
    if rest:
        known = {f"{ratios[name]:.4g}" for name in rest if ratios.get(name) is not None}
        factor = f" They are {known.pop()} times PyTorch's." if len(known) == 1 else ""
        sentences.append(
            f"{same} and so does the loss, but the gradients of {list_some(rest, len(ratios))} "
            f"differ.{factor} An operation after these weights has another derivative: a custom "
            f"gradient, a stopped gradient on one of several ways, or clipping of single values."
        )
    return sentences


def _outputs_gap(samples: Samples) -> float | None:
    """Return the largest difference of the first outputs, or None if they cannot be compared."""
    torch_outputs, jax_outputs = samples.torch.outputs, samples.jax.outputs
    if len(torch_outputs) != len(jax_outputs):
        return None
    gaps = []
    for one, other in zip(torch_outputs, jax_outputs, strict=True):
        aligned = align(one, other)
        if aligned is None:
            return None
        gap = largest_difference(aligned.array, other)
        gaps.append(gap / (float(np.max(np.abs(one), initial=0)) or 1.0))
    return max(gaps, default=None)


def _gradient_ratios(samples: Samples, close: float) -> dict[str, float | None]:
    """Return JAX's gradient over PyTorch's for each weight, or None if it is not constant."""
    ratios: dict[str, float | None] = {}
    for name, (jax_gradient, *_) in samples.jax.gradients.items():
        torch_gradient = samples.torch.gradients[name][0]
        if (
            jax_gradient is None
            or torch_gradient is None
            or name in samples.rounding_only
            or not np.any(torch_gradient)
        ):
            continue
        ratio = best_factor(torch_gradient, jax_gradient)
        constant = np.max(np.abs(jax_gradient - ratio * torch_gradient)) <= close * max(
            np.max(np.abs(jax_gradient)), np.max(np.abs(torch_gradient))
        )
        ratios[name] = ratio if constant else None
    return ratios


def _explain_factor(factor: float, samples: Samples) -> str:
    """Explain a factor of the loss by the sizes of the outputs."""
    outputs = samples.torch.outputs
    batch, size = (outputs[0].shape[0], outputs[0].size) if outputs and outputs[0].ndim else (0, 0)
    counts = {
        "the number of examples in the batch": batch,
        "the number of values of the output": size,
        "the number of values of the output per example": size // batch if batch else 0,
    }
    for what, count in counts.items():
        for value, summed in ((factor, "JAX"), (1 / factor, "PyTorch")):
            if count > 1 and abs(value / count - 1) < 1e-3:
                return (
                    f" The factor belongs to {what}, {count}: the loss is summed in {summed} and "
                    f"averaged on the other side."
                )
    return " The loss is scaled on one side."


def _find_penalty(samples: Samples, close: float) -> float | None:
    """Return the factor of the weights that JAX's gradients have in addition to PyTorch's."""
    names = [
        name
        for name, (gradient, *_) in samples.jax.gradients.items()
        if gradient is not None and samples.torch.gradients[name][0] is not None
    ]
    if not names:
        return None
    torch_gradients, jax_gradients = (
        np.concatenate([np.asarray(side.gradients[name][0]) for name in names])
        for side in (samples.torch, samples.jax)
    )
    weights = np.concatenate([samples.torch.weights[name][0] for name in names])
    value = best_factor(weights, jax_gradients - torch_gradients)
    error = np.max(np.abs(jax_gradients - torch_gradients - value * weights))
    if value and error <= close * np.max(np.abs(jax_gradients - torch_gradients)):
        return value
    return None
