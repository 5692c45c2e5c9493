"""Comparison of a PyTorch network and its counterpart in JAX."""

from aff_jax.parity import report
from aff_jax.parity.assertion import assert_parity
from aff_jax.parity.comparison import Parity, compare
from aff_jax.parity.rows import Row

__all__ = ["Parity", "Row", "assert_parity", "compare", "report"]
