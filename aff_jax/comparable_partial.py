"""A `functools.partial` that equals others of the same function and arguments."""

import functools
from typing import Any

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
        """Hash the function and the names of the arguments, whose values may be lists."""
        return hash((self.func, len(self.args), frozenset(self.keywords)))


def make_comparable(value: Any) -> Any:
    """Return a `functools.partial` as a `ComparablePartial`, and other values unchanged."""
    if type(value) is functools.partial:
        return ComparablePartial(value.func, *value.args, **value.keywords)
    return value
