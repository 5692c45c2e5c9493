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
        return isinstance(other, ComparablePartial) and self._key() == other._key()

    def __hash__(self) -> int:
        """Hash the function and the arguments."""
        function, arguments, keywords = self._key()
        return hash((function, arguments, frozenset(keywords.items())))

    def _key(self) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        return self.func, self.args, self.keywords


def make_comparable(value: Any) -> Any:
    """Return a `functools.partial` as a `ComparablePartial`, and other values unchanged."""
    if type(value) is functools.partial:
        return ComparablePartial(value.func, *value.args, **value.keywords)
    return value
