"""Describe what was compared: modules, inputs and versions."""

import importlib
from typing import Any

import jax

from aff_jax.parity.recording.recorder import Inputs, is_array

__all__ = ["describe"]

_PACKAGES = ("aff_jax", "jax", "flax", "torch")
"""Packages whose versions decide what is computed."""


def describe(
    torch_module: Any, module: Any, inputs: Inputs, torch_inputs: Inputs
) -> dict[str, str]:
    """Describe what was compared.

    Args:
        torch_module: The PyTorch module.
        module: The module in JAX.
        inputs: Inputs of `module`.
        torch_inputs: Inputs of `torch_module`.

    Returns:
        Texts by their titles.
    """
    versions = (f"{name} {importlib.import_module(name).__version__}" for name in _PACKAGES)
    return {
        "PyTorch module": type(torch_module).__qualname__,
        "JAX module": type(module).__qualname__,
        "PyTorch inputs": _describe_inputs(torch_inputs),
        "JAX inputs": _describe_inputs(inputs),
        "versions": ", ".join(versions),
        "device of JAX": jax.devices()[0].device_kind,
    }


def _describe_inputs(inputs: Inputs) -> str:
    """Describe positional and keyword arguments, such as "float32 2x3, train=False"."""
    named = {name: _describe_tree(value) for name, value in inputs.kwargs.items()}
    parts = [*map(_describe_tree, inputs.args), *(f"{n}={text}" for n, text in named.items())]
    return ", ".join(parts) or "none"


def _describe_tree(tree: Any) -> str:
    """Describe the leaves of one argument."""
    return ", ".join(map(_describe_leaf, jax.tree.leaves(tree))) or repr(tree)


def _describe_leaf(leaf: Any) -> str:
    """Describe an array by its dtype and shape, and write any other value."""
    if is_array(leaf):
        return f"{leaf.dtype} {'x'.join(map(str, leaf.shape)) or 'scalar'}"
    return repr(leaf)
