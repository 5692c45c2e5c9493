"""PyTorch draws the same numbers in every module of tests."""

from tests.aff_jax.convert.conftest import seeded_torch

__all__ = ["seeded_torch"]
