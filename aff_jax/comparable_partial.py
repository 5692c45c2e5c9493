"""Values that equal others made in the same way, and have the same hash."""

import functools
from typing import Any

import flax.linen as nn
import jax
import numpy as np

__all__ = ["ComparablePartial", "make_comparable"]


class ComparablePartial(functools.partial[Any]):
    """A `functools.partial` that is compared by its function and arguments.

    Python compares partials by identity. A module with such a field would differ from a second
    module that is made in the same way, so that `jax.jit` compiles again for every new module that
    is a static argument.
    """

    def __eq__(self, other: object) -> bool:
        """Compare the function and the arguments."""
        if not isinstance(other, ComparablePartial):
            return NotImplemented
        return (self.func, self.args, self.keywords) == (other.func, other.args, other.keywords)

    def __hash__(self) -> int:
        """Hash the function and the names of the arguments, whose values may be unhashable."""
        return hash((self.func, len(self.args), frozenset(self.keywords)))


def make_comparable(value: Any) -> Any:
    """Return a value that is compared and hashed by its content.

    Args:
        value: Any value, such as a field of a module.

    Returns:
        A `ComparablePartial` for a `functools.partial`, a tuple for a list, a `FrozenDict` for a
        dict, and a Python number for a NumPy or JAX number, at any depth. Other values are
        returned unchanged.
    """
    if type(value) in (list, tuple):
        return tuple(map(make_comparable, value))
    if isinstance(value, dict | nn.FrozenDict):
        return nn.FrozenDict({key: make_comparable(item) for key, item in value.items()})
    if type(value) is functools.partial:
        keywords = {key: make_comparable(item) for key, item in value.keywords.items()}
        return ComparablePartial(value.func, *map(make_comparable, value.args), **keywords)
    is_array = isinstance(value, np.generic | np.ndarray | jax.Array)
    if is_array and not isinstance(value, jax.core.Tracer) and value.ndim == 0:
        return value.item()
    return value
