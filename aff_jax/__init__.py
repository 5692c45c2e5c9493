"""Attentional feature fusion for JAX and Flax linen (Dai et al., WACV 2021)."""

from aff_jax.attention.ms_cam import MSCAM
from aff_jax.fusion.attentional import AFF, IAFF
from aff_jax.fusion.registry import create_fusion, list_fusions
from aff_jax.hosts.registry import create_model, list_models
from aff_jax.layers import BatchNorm

__all__ = [
    "AFF",
    "IAFF",
    "MSCAM",
    "BatchNorm",
    "create_fusion",
    "create_model",
    "list_fusions",
    "list_models",
]

__version__ = "0.1.0"
