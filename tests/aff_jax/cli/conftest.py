"""Weights of a PyTorch network, and tracebacks of failed commands, which pytest prints."""

import logging

import pytest
import torch

from tests.aff_jax.convert.golden import weight
from tests.reference import torch_aff


@pytest.fixture(autouse=True)
def logged_tracebacks(caplog):
    caplog.set_level(logging.DEBUG, logger="aff_jax")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Weights of the network in `pytorch_network.py`."""
    network = torch_aff.ResNet(
        torch_aff.basic_block, (1,), "iAFF", num_classes=7, small_input=True, features=8
    )
    state = {
        name: torch.from_numpy(weight(name, tuple(value.shape)))
        for name, value in network.state_dict().items()
    }
    path = tmp_path_factory.mktemp("torch") / "iaff.pth"
    torch.save({"state_dict": state}, path)
    return path
