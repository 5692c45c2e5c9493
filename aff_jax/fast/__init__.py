"""Measured shortcuts: faster programs for what the formulas of the modules say.

The files of the modules show the formulas. Where a compiler makes a slow program of a formula, the
same result is computed here in another way. `takes_shortcut` is the only place that decides, and
`implementation="plain"` on a module turns all shortcuts off. The tests compare the shortcuts with
the formulas in float64: outputs, gradients and statistics.
"""

from aff_jax.fast.branch import derived_branch
from aff_jax.fast.rule import takes_shortcut
from aff_jax.fast.sigmoid import explicit_sigmoid
from aff_jax.fast.weighted_sum import gain_inside_sum

__all__ = ["derived_branch", "explicit_sigmoid", "gain_inside_sum", "takes_shortcut"]
