"""Measured shortcuts: faster programs for the formulas of the modules.

The files of the modules show the formulas. Where XLA compiles a formula to a slow program, a
shortcut computes the same result in another way. `takes_shortcut` alone decides where, and
`implementation="plain"` on a module turns all shortcuts off. A change of a formula needs the same
change of its shortcut: the tests compare them in float64, outputs, gradients and statistics.

Only the derivative of `aff_jax.nn.batch_norm.batch_moments` is always written out.
"""

from aff_jax.fast.branch import derived_branch
from aff_jax.fast.elementwise import explicit_sigmoid, gain_inside_sum
from aff_jax.fast.rule import takes_shortcut, target_platform

__all__ = [
    "derived_branch",
    "explicit_sigmoid",
    "gain_inside_sum",
    "takes_shortcut",
    "target_platform",
]
