"""Comparison of a PyTorch network and its counterpart in JAX."""

from aff_jax.parity.assertion import assert_parity
from aff_jax.parity.comparison import compare
from aff_jax.parity.result import Parity
from aff_jax.parity.rows import Row
from aff_jax.parity.training.compare_step import compare_step
from aff_jax.parity.training.step_parity import StepParity, StepRow

__all__ = [
    "Parity",
    "Row",
    "StepParity",
    "StepRow",
    "assert_parity",
    "compare",
    "compare_step",
]
