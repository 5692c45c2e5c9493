"""Check the arguments of a comparison, with errors that say what to pass instead."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from aff_jax.parity.recording.nnx_recording import is_nnx
from aff_jax.parity.recording.recorder import is_array

__all__ = ["check_arguments"]


def check_arguments(
    torch_module: Any, module: Any, variables: Any, tolerance: float | None, inputs: Any
) -> None:
    """Check the arguments of a comparison.

    Args:
        torch_module: Should be a PyTorch module.
        module: Should be a linen or NNX module.
        variables: Should be the variables of a linen module, or None.
        tolerance: Should be None or at least 0.
        inputs: Should be a tree of arrays with at least one value each.

    Raises:
        TypeError: If an argument is of a wrong kind.
        ValueError: If the tolerance is negative, or an input is empty.
    """
    import torch

    is_flax = isinstance(torch_module, nn.Module) or is_nnx(torch_module)
    if is_flax and isinstance(module, torch.nn.Module):
        raise TypeError(
            "expected the PyTorch module first and the module in JAX second, got them "
            "the other way round."
        )
    for given in (torch_module, module):
        if isinstance(given, type):
            raise TypeError(
                f"expected a module, got the class {given.__name__}. Make an instance of it."
            )
    if isinstance(torch_module, torch.jit.ScriptModule):
        raise TypeError(
            "expected a torch.nn.Module in Python, got a ScriptModule, whose submodules cannot be "
            "observed. Pass the module that it was made from."
        )
    if not isinstance(torch_module, torch.nn.Module):
        raise TypeError(
            f"expected a torch.nn.Module, got a {type(torch_module).__name__}. Pass the module "
            f"itself, not its state dict."
        )
    if not isinstance(module, nn.Module) and not is_nnx(module):
        raise TypeError(
            f"expected a flax.linen.Module or a flax.nnx.Module, got a {type(module).__name__}. "
            f"Pass the module itself, not its variables."
        )
    if variables is not None and not isinstance(variables, Mapping):
        raise TypeError(
            f"expected the variables of the module or None as the third argument, got a "
            f"{type(variables).__name__}. The inputs follow them: `compare(torch_module, module, "
            f"None, x)`."
        )
    has_inputs = any(is_array(x) or isinstance(x, torch.Tensor) for x in jax.tree.leaves(inputs))
    if variables and not has_inputs and not {"params", "batch_stats"} & set(variables):
        raise TypeError(
            f"expected the variables of the module or None as the third argument, and inputs after "
            f"it, got a mapping with {', '.join(map(str, variables))} and no inputs. If these are "
            f"the inputs, pass `compare(torch_module, module, None, inputs)`."
        )
    if variables is not None and is_nnx(module):
        raise TypeError(
            "expected None as the third argument, since an NNX module carries its weights, got "
            "variables. Pass `compare(torch_module, module, None, x)`."
        )
    if tolerance is not None and not tolerance >= 0:
        raise ValueError(f"expected a tolerance of at least 0, got {tolerance}.")
    for leaf in jax.tree.leaves(inputs):
        if isinstance(leaf, torch.Tensor):
            raise TypeError(
                "expected inputs as NumPy or JAX arrays in the layout of the linen module, got a "
                "torch.Tensor. Convert it with `tensor.numpy()`, or pass it as `torch_inputs`."
            )
        if is_array(leaf) and leaf.size == 0:
            raise ValueError(
                f"expected inputs with at least one value each, got an empty array of shape "
                f"{leaf.shape}."
            )
