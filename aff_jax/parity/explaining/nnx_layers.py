"""Layers of NNX modules, and the weights of PyTorch's layers in their layouts."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from aff_jax.convert.entries import KERNEL_LAYOUTS
from aff_jax.parity.explaining.single_layer import SingleLayer
from aff_jax.parity.recording.nnx_recording import submodules_of_nnx
from aff_jax.parity.recording.torch_network import TorchNetwork
from aff_jax.parity.recording.torch_recording import from_tensor

__all__ = ["convert_to_nnx", "find_nnx_layer"]


def find_nnx_layer(module: Any, variables: Mapping[str, Any], path: str) -> SingleLayer | None:
    """Find a layer of an NNX module by its path.

    Args:
        module: The module.
        variables: Its variables, as `state_of_nnx` returns them.
        path: Path of the layer, joined by slashes.

    Returns:
        The layer with its variables, or None if there is none at this path.
    """
    for at, layer in submodules_of_nnx(module).items():
        if "/".join(map(str, at)) == path:
            tree = variables["nnx"]
            for key in at:
                tree = tree.get(key, {})
            return SingleLayer(layer, {"nnx": tree})
    return None


def convert_to_nnx(torch_network: TorchNetwork, module: Any) -> dict[str, dict[str, np.ndarray]]:
    """Convert PyTorch's weights of the layers that an NNX module has under the same names.

    Args:
        torch_network: The PyTorch network.
        module: The NNX module.

    Returns:
        Arrays by the path of the layer and the name of the variable. Layers other than dense
        layers, convolutions, embeddings and norms are left out.
    """
    parts = {torch_network.names[old]: p for old, p in torch_network.module.named_modules()}
    converted = {}
    for at, layer in submodules_of_nnx(module).items():
        part = parts.get(".".join(map(str, at)))
        if part is not None and (arrays := _convert(layer, part)):
            converted["/".join(map(str, at))] = arrays
    return converted


def _convert(layer: Any, part: Any) -> dict[str, np.ndarray]:
    import torch

    weight, layout = _find_weight(layer, part)
    if weight is None:
        return {}
    names = {"weight": weight, "bias": "bias", "running_mean": "mean", "running_var": "var"}
    arrays = {}
    for name, leaf in names.items():
        value = getattr(part, name, None)
        if isinstance(value, torch.Tensor):
            array = from_tensor(value)
            arrays[leaf] = KERNEL_LAYOUTS[layout].to_flax(array) if name == "weight" else array
    return arrays


def _find_weight(layer: Any, part: Any) -> tuple[str | None, str]:
    """Return the variable of PyTorch's `weight`, None if it is not known, and its layout."""
    from flax import nnx
    from torch import nn

    transposed = (
        "convolution" if getattr(layer, "transpose_kernel", False) else "transposed convolution"
    )
    for kind, torch_kind, weight, layout in (
        (nnx.Linear, nn.Linear, "kernel", "dense"),
        (nnx.Conv, nn.Conv1d | nn.Conv2d | nn.Conv3d, "kernel", "convolution"),
        (
            nnx.ConvTranspose,
            nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d,
            "kernel",
            transposed,
        ),
        (nnx.Embed, nn.Embedding, "embedding", "same"),
    ):
        if isinstance(layer, kind) and isinstance(part, torch_kind):
            return weight, layout
    if hasattr(layer, "scale") and hasattr(part, "eps"):  # a norm
        return "scale", "same"
    return None, "same"
