"""A small PyTorch network: code that makes it, and flags that describe it."""

MAKER = """
from tests.reference import torch_aff

def make():
    return torch_aff.ResNet(
        torch_aff.basic_block, (1,), "iAFF", num_classes=7, small_input=True, features=8
    )
"""
"""A file for `aff-jax compare`."""

RESNET = (
    "--model=resnet18",
    "--fusion=iaff",
    "--reference=pytorch",
    "--field=small_input=True",
    "--field=blocks_per_stage=(1,)",
    "--field=base_channels=8",
)
"""Flags of the same network in linen."""
