"""PyTorch draws the same numbers in every module of tests."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def seeded_torch():
    try:
        import torch
    except ImportError:  # the readers of other files are tested without it
        return
    torch.manual_seed(0)
