"""Explain differences of the running statistics of batch norms."""

from collections.abc import Mapping, Sequence

import numpy as np

from aff_jax.parity.array_differences import best_factor
from aff_jax.parity.training.optimizer_causes import list_some
from aff_jax.parity.training.record import BatchMoments
from aff_jax.parity.training.samples import Samples

__all__ = ["explain_statistics"]

_CANDIDATES = (0.1, 0.01, 0.9, 0.99, 0.001, 0.05, 0.2, 1.0)
"""Shares of the batch that are tried for norms that are called several times."""


def explain_statistics(samples: Samples, dtype: str) -> list[str]:
    """Explain the running statistics after the first step by the moments of PyTorch's batches.

    Args:
        samples: Samples of both sides.
        dtype: Dtype of the training.

    Returns:
        Sentences. The list is empty if both sides follow the same convention, or if the statistics
        have another cause.
    """
    bound = 1e-3 if dtype == "float32" else 1e-7
    norms = {
        norm: calls
        for norm, calls in samples.batch_moments[0].items()
        if f"{norm}.running_mean" in samples.jax.statistics
    }
    if not norms:
        return []
    arrays = {
        f"{norm}.{leaf}": np.stack(samples.jax.statistics[f"{norm}.{leaf}"][:2])
        for norm in norms
        for leaf in ("running_mean", "running_var")
    }
    if not any(np.diff(array, axis=0).any() for array in arrays.values()):
        return [
            "JAX's running statistics do not change: the linen module is not in training mode. "
            "Pass the argument that sets it as `kwargs`, such as {'train': True}."
        ]
    shares = {
        norm: share
        for norm, calls in norms.items()
        if (share := _find_share(calls, arrays, norm, samples.norm_momenta.get(norm), bound))
    }
    sentences = _explain_momenta(shares, samples.norm_momenta)
    kinds: dict[bool, list[str]] = {}
    for norm, share in shares.items():
        for unbiased in (True, False):
            if _error(arrays[f"{norm}.running_var"], norms[norm], share, True, unbiased) <= bound:
                kinds.setdefault(unbiased, []).append(norm)
                break
    # For large batches both conventions agree.
    if kinds.get(False):
        norm = kinds[False][0]
        size = norms[norm][0].size
        sentences.append(
            f"The running variance differs in {len(kinds[False])} of {len(norms)} norms: JAX keeps "
            f"the biased variance of the batch, and PyTorch the unbiased one, which is n / (n - 1) "
            f"times as large. At {norm}, n = {size} and the factor is {size / (size - 1):.6g}. "
            f"Use aff_jax.BatchNorm(unbiased_variance=True)."
        )
    return sentences


def _explain_momenta(shares: Mapping[str, float], momenta: Mapping[str, float | None]) -> list[str]:
    """Explain norms that take another share of the batch than PyTorch's."""
    groups: dict[tuple[float, float | None], list[str]] = {}
    for norm, share in shares.items():
        torch_momentum = momenta.get(norm)
        if torch_momentum is None or abs(share - torch_momentum) > 1e-3 * torch_momentum:
            groups.setdefault((float(f"{share:.4g}"), torch_momentum), []).append(norm)
    sentences = []
    for (share, torch_momentum), names in groups.items():
        where = ""
        if len(names) < len(shares):
            where = f" of {len(names)} of {len(shares)} norms {list_some(names)}"
        in_jax = (
            f"JAX computes {1 - share:.4g} * old + {share:.4g} * batch, as "
            f"momentum={1 - share:.4g} in Flax"
        )
        if torch_momentum is None:
            sentences.append(
                f"The running statistics{where} differ: PyTorch has momentum=None, which keeps the "
                f"average of all batches so far, and {in_jax}. Flax's norms have no such average. "
                f"Set a momentum in PyTorch."
            )
            continue
        swapped = ""
        if abs(share + torch_momentum - 1) < 1e-3:
            swapped = (
                f" PyTorch's value was probably passed on; Flax's is 1 - {torch_momentum:.4g}."
            )
        sentences.append(
            f"The momentum of the running statistics{where} differs: {in_jax}, and PyTorch has "
            f"momentum={torch_momentum:.4g}, which is momentum={1 - torch_momentum:.4g} in Flax."
            f"{swapped}"
        )
    return sentences


def _predict(
    old: np.ndarray, calls: Sequence[BatchMoments], share: float, is_var: bool, unbiased: bool
) -> np.ndarray:
    """Predict a running statistic from its old value and the batches of a step."""
    for mean, var, size in calls:
        batch = mean
        if is_var:
            batch = var * size / (size - 1) if unbiased and size > 1 else var
        old = (1 - share) * old + share * batch
    return old


def _error(
    array: np.ndarray, calls: Sequence[BatchMoments], share: float, is_var: bool, unbiased: bool
) -> float:
    """Return the error of a predicted statistic, relative to its change."""
    error = np.max(np.abs(_predict(array[0], calls, share, is_var, unbiased) - array[1]))
    return float(error / max(np.max(np.abs(array[1] - array[0])), 1e-30))


def _find_share(
    calls: Sequence[BatchMoments],
    arrays: Mapping[str, np.ndarray],
    norm: str,
    torch_momentum: float | None,
    bound: float,
) -> float | None:
    """Find the share of the batch in the running mean of a JAX norm."""
    means = arrays[f"{norm}.running_mean"]
    shares = [] if torch_momentum is None else [torch_momentum]
    if len(calls) == 1:
        towards = calls[0].mean - means[0]
        shares.append(best_factor(towards, means[1] - means[0]))
    candidates = (share for share in (*shares, *_CANDIDATES) if share)
    return next((s for s in candidates if _error(means, calls, s, False, False) <= bound), None)
