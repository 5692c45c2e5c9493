"""Comparison of a PyTorch network and its counterpart in JAX."""

from aff_jax.parity import report
from aff_jax.parity.assertion import assert_parity
from aff_jax.parity.comparison import Parity, compare
from aff_jax.parity.rows import Row
from aff_jax.parity.step_parity import StepParity, StepRow
from aff_jax.parity.training import compare_step

__all__ = [
    "Parity",
    "Row",
    "StepParity",
    "StepRow",
    "assert_parity",
    "compare",
    "compare_step",
    "report",
]
