"""Assert in a test that two networks are equal."""

from typing import Any

from aff_jax.parity.comparison import compare
from aff_jax.parity.result import Parity

__all__ = ["assert_parity"]

_CONTEXT = 3
"""Number of rows before and after the first mismatch in the message."""


def assert_parity(torch_module: Any, module: Any, *arguments: Any, **options: Any) -> Parity:
    """Compare two networks and raise an error if they differ.

        >>> import torch, flax.linen as nn, jax.numpy as jnp
        >>> x = jnp.ones((2, 3))
        >>> assert_parity(torch.nn.Linear(3, 4), nn.Dense(4), None, x, float64=True).equal
        True

    Args:
        torch_module: PyTorch module.
        module: Linen or NNX module.
        *arguments: Variables and inputs, as in `compare`.
        **options: Keyword arguments of `compare`.

    Returns:
        The comparison of the equal networks.

    Raises:
        AssertionError: If the networks differ, or their outputs were not compared. The message has
            the verdict, the explanation, and the rows around the first mismatch.
        TypeError, ValueError: For the reasons that `compare` lists.
    """
    parity = compare(torch_module, module, *arguments, **options)
    if not parity.equal:
        table, _, verdict = parity.to_text().partition("\n\n")
        header, *lines = table.splitlines()
        first = next((i for i, row in enumerate(parity.rows) if row is parity.first_mismatch), 0)
        shown = lines[max(0, first - _CONTEXT) : first + _CONTEXT + 1]
        raise AssertionError("\n".join([verdict, "", header, *shown]))
    return parity
