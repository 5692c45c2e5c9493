"""Attentional feature fusion for JAX and Flax linen (Dai et al., WACV 2021)."""

from aff_jax import convert, inference, parity
from aff_jax.attention.ms_cam import MSCAM
from aff_jax.explain import fusion_weights, grad_cam
from aff_jax.fusion.aff import AFF
from aff_jax.fusion.align import Align
from aff_jax.fusion.iaff import IAFF
from aff_jax.fusion.registry import create_fusion, list_fusions
from aff_jax.hosts.registry import create_model, list_models
from aff_jax.nn.batch_norm import BatchNorm
from aff_jax.prediction.predictor import Predictor
from aff_jax.serialization import load, save

__all__ = [
    "AFF",
    "IAFF",
    "MSCAM",
    "Align",
    "BatchNorm",
    "Predictor",
    "convert",
    "create_fusion",
    "create_model",
    "fusion_weights",
    "grad_cam",
    "inference",
    "list_fusions",
    "list_models",
    "load",
    "parity",
    "save",
]

__version__ = "0.1.0"
