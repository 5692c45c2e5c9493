"""Comparison of a PyTorch module and a linen module, activation by activation."""

from aff_jax.parity import report
from aff_jax.parity.comparison import Parity, Row, compare
from aff_jax.parity.step_parity import StepParity, StepRow
from aff_jax.parity.training import compare_step

__all__ = ["Parity", "Row", "StepParity", "StepRow", "compare", "compare_step", "report"]
