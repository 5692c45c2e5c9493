"""Seed PyTorch before every test module."""

from tests.aff_jax.convert.conftest import seeded_torch

__all__ = ["seeded_torch"]
