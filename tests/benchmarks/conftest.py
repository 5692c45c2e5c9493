"""Fast compilation, as for the library's tests."""

from tests.aff_jax.conftest import compile_fast

__all__ = ["compile_fast"]
