"""Comparison of a PyTorch module and a linen module, activation by activation."""

from aff_jax.parity import report
from aff_jax.parity.comparison import Parity, compare
from aff_jax.parity.rows import Row

__all__ = ["Parity", "Row", "compare", "report"]
