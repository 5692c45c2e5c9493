"""Find norms with another epsilon whose outputs agree within rounding."""

from collections.abc import Mapping, Sequence
from typing import Any

from aff_jax.parity.recording.torch_network import TorchNetwork
from aff_jax.parity.rows import Row

__all__ = ["list_hidden_epsilons"]

_NAMES = ("epsilon", "eps", "variance_epsilon")
"""Names of the field in Flax, PyTorch and transformers."""


def list_hidden_epsilons(
    rows: Sequence[Row], layers: Mapping[str, Any], torch_network: TorchNetwork
) -> list[str]:
    """List the layers that agree although their epsilon is not PyTorch's.

    Args:
        rows: Rows of the comparison.
        layers: Layers of the JAX network by path.
        torch_network: The PyTorch network.

    Returns:
        Descriptions, such as "`norm` has epsilon 1e-06 where PyTorch has 1e-05".
    """
    parts = {torch_network.names[old]: p for old, p in torch_network.module.named_modules()}
    found: dict[str, str] = {}
    for row in rows:
        epsilon, torch_epsilon = map(_epsilon, (layers.get(row.path), parts.get(row.name)))
        if not row.differs and None not in (epsilon, torch_epsilon) and epsilon != torch_epsilon:
            found[row.path] = (
                f"`{row.path}` has epsilon {epsilon} where PyTorch has {torch_epsilon}"
            )
    return list(found.values())


def _epsilon(layer: Any) -> float | None:
    """Return the epsilon of a layer, or None if it has no such field."""
    values = (getattr(layer, name, None) for name in _NAMES)
    return next((value for value in values if isinstance(value, float)), None)
