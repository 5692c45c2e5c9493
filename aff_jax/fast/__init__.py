"""Measured shortcuts: faster programs for the formulas of the modules.

The files of the modules show the formulas. Where XLA compiles a formula to a slow program, a
shortcut computes the same result in another way. `takes_shortcut` alone decides where, and
`implementation="plain"` on a module turns all shortcuts off. A change of a formula needs the same
change of its shortcut: the tests compare them in float64, outputs, gradients and statistics.

One shortcut cannot be turned off: `aff_jax.nn.batch_norm.batch_moments` always uses a hand-written
derivative.
"""

from aff_jax.fast.branch import branch_with_derived_statistics
from aff_jax.fast.elementwise import explicit_sigmoid, gain_inside_sum
from aff_jax.fast.rule import takes_shortcut, target_platform

__all__ = [
    "branch_with_derived_statistics",
    "explicit_sigmoid",
    "gain_inside_sum",
    "takes_shortcut",
    "target_platform",
]
