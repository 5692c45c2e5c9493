"""Seed PyTorch before every test module."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def seeded_torch():
    try:
        import torch
    except ImportError:  # tests of the other file formats run without PyTorch
        return
    torch.manual_seed(0)
