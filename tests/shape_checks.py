"""The run-time checks of types and shapes, for `jaxtyping.install_import_hook`."""

from beartype import BeartypeConf, beartype

__all__ = ["check"]

# As in type checkers, an int is a float.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
