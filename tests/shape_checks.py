"""The run-time checks of types and shapes, for `jaxtyping.install_import_hook`."""

from numbers import Integral, Real

import jax
import numpy as np
from beartype import BeartypeConf, FrozenDict, beartype
from jax import export

__all__ = ["check"]

# Type checkers see an int where the size of an axis is symbolic.
SYMBOLIC = type(export.symbolic_shape("size")[0])
# The fields of modules take numbers of NumPy and JAX, and make Python numbers of them.
ARRAYS = np.ndarray | jax.Array
check = beartype(
    conf=BeartypeConf(
        hint_overrides=FrozenDict({float: Real | ARRAYS, int: Integral | ARRAYS | SYMBOLIC})
    )
)
