"""Convert PyTorch state dicts to variables, and variables to state dicts."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import flax.linen as nn
import numpy as np

from aff_jax.convert.entries import Entry
from aff_jax.convert.mapping import (
    Variables,
    arrays_to_variables,
    list_entries,
    variables_to_arrays,
)
from aff_jax.convert.prefixes import rename_prefixes, select_prefix
from aff_jax.convert.rules import PYTORCH
from aff_jax.convert.weight_files import COUNTERS, read_weights, unwrap_state_dict
from aff_jax.inspection import image_channels, inspect_module
from aff_jax.nn.argument_checks import check_model_and_variables

__all__ = ["from_torch", "to_torch"]

COUNTER = "num_batches_tracked"
"""Step counter of PyTorch's batch norm. PyTorch reads it only with `momentum=None`."""

IGNORED = (COUNTER, *COUNTERS)
"""Counters that are dropped, at any depth of the module."""


def from_torch(
    source: Mapping[str, Any] | str | PathLike[str],
    module: nn.Module,
    *example_inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    prefix: str = "",
    rename: Mapping[str, str] | None = None,
) -> Variables:
    """Convert the state dict of a PyTorch module to the variables of a linen module.

    A PyTorch name is the path of the linen submodule, with dots. Submodules of `MSCAM`, `AFF`,
    `IAFF` and `ResNet` have their names in open-aff's PyTorch code.

        >>> import torch, flax.linen as nn, jax.numpy as jnp
        >>> conv = torch.nn.Conv2d(3, 8, 5)
        >>> variables = from_torch(conv.state_dict(), nn.Conv(8, (5, 5)), jnp.zeros((1, 9, 9, 3)))
        >>> variables["params"]["kernel"].shape
        (5, 5, 3, 8)

    Args:
        source: Dict of tensors or arrays, or path of a `.pth`, `.pt` or `.safetensors` file.
            Wrappings such as a "state_dict" key or a "module." prefix are removed.
        module: Linen module of the same architecture.
        *example_inputs: Inputs that `module` is called with. Only their shapes are used. Networks
            of `create_model` need none if their images have three channels.
        kwargs: Keyword arguments that `module` is called with, such as `{"train": False}`.
        prefix: Convert only the arrays whose names begin with this prefix, and remove it, as
            "audio_branch.fusion_model.".
        rename: New prefixes by the prefixes in `source`, such as `{"encoder.fuse": "AFF_0"}`.

    Returns:
        The collections "params" and "batch_stats", in the dtypes of `module`. For an `IAFF` with
        `share_global`, "unread" contains the second global branch, which PyTorch's iAFF has and
        never reads. `to_torch` writes it again.

    Raises:
        TypeError: If an argument has a wrong type, such as if two are swapped.
        ValueError: If arrays are missing, unexpected or misshapen (the message lists all of them),
            or the file is not one of PyTorch or safetensors.
    """
    call = "from_torch(source, module, *example_inputs)"
    check_model_and_variables(call, module, source if isinstance(source, nn.Module) else {})
    if isinstance(source, str | PathLike):
        arrays, where = read_weights(source, {"mxnet": "from_mxnet"}), str(source)
    else:
        arrays, where = unwrap_state_dict(source), "the state dict"
    arrays = rename_prefixes(select_prefix(arrays, prefix), rename)
    arrays = {n: array for n, array in arrays.items() if n.rpartition(".")[2] not in IGNORED}
    entries = list_entries(inspect_module(module, example_inputs, kwargs=kwargs), PYTORCH)
    return arrays_to_variables(entries, arrays, where)


def to_torch(
    variables: Variables,
    module: nn.Module,
    *example_inputs: Any,
    rename: Mapping[str, str] | None = None,
) -> dict[str, np.ndarray]:
    """Convert the variables of a linen module to a PyTorch state dict of NumPy arrays.

    The result is the bit-exact inverse of `from_torch`, except that `num_batches_tracked` is reset.
    Load it into a PyTorch module with
    `module.load_state_dict({k: torch.from_numpy(v) for k, v in arrays.items()})`.

    Args:
        variables: Variables of `module`.
        module: Linen module.
        *example_inputs: As in `from_torch`.
        rename: As in `from_torch`; it is applied in reverse.

    Returns:
        Arrays by PyTorch's names, in PyTorch's layouts and the dtypes of the variables.

    Raises:
        TypeError: If an argument has a wrong type, such as if two are swapped.
        ValueError: If the variables do not match the module. The message lists every difference.
    """
    check_model_and_variables("to_torch(variables, module, *example_inputs)", module, variables)
    structure = inspect_module(module, example_inputs, channels=image_channels(variables))
    entries = list_entries(structure, PYTORCH)
    written = variables_to_arrays(entries, variables)
    written |= {counter: np.zeros((), np.int64) for counter in _counters(entries)}
    return rename_prefixes(written, {new: old for old, new in (rename or {}).items()})


def _counters(entries: Sequence[Entry]) -> list[str]:
    return [e.name.replace("running_var", COUNTER) for e in entries if "running_var" in e.name]
