"""PyTorch draws the same numbers in every test."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def seeded_torch():
    torch.manual_seed(0)
