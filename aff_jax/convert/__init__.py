"""Conversion of weights from PyTorch and MXNet, and back to PyTorch."""

from aff_jax.convert.channels import adapt_channels
from aff_jax.convert.mxnet import from_mxnet
from aff_jax.convert.mxnet_params import read_mxnet_params
from aff_jax.convert.pytorch import from_torch, to_torch

__all__ = ["adapt_channels", "from_mxnet", "from_torch", "read_mxnet_params", "to_torch"]
