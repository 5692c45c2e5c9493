"""Convert PyTorch state dicts to variables, and variables to state dicts."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

import flax.linen as nn
import numpy as np

from aff_jax.convert.entries import UNREAD, Entry
from aff_jax.convert.mapping import (
    Variables,
    arrays_to_variables,
    list_entries,
    variables_to_arrays,
)
from aff_jax.convert.packing import list_forms, pack, unpack
from aff_jax.convert.prefixes import (
    Rename,
    drop_ignored,
    rename_arrays,
    restore_names,
    select_prefix,
)
from aff_jax.convert.reparametrizations import fold_reparametrizations
from aff_jax.convert.rules import PYTORCH
from aff_jax.convert.weight_files import COUNTERS, read_weights, unwrap_state_dict
from aff_jax.differences import DifferentArraysError
from aff_jax.inspection import image_channels, inspect_module
from aff_jax.nn.input_checks import check_model_and_variables

__all__ = ["from_torch", "to_torch"]

_COUNTER = "num_batches_tracked"
"""Step counter of PyTorch's batch norm. PyTorch reads it only with `momentum=None`."""

_IGNORED = (_COUNTER, *COUNTERS)
"""Counters that are dropped, at any depth of the module."""


def from_torch(
    source: Mapping[str, Any] | str | PathLike[str],
    module: nn.Module,
    *example_inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    prefix: str = "",
    rename: Rename | None = None,
    ignore: Sequence[str] = (),
) -> Variables:
    """Convert the state dict of a PyTorch module to the variables of a linen module.

    A PyTorch name is the path of the linen submodule, with dots. Submodules of `MSCAM`, `AFF`,
    `IAFF` and `ResNet` have their names in open-aff's PyTorch code. Layers that `nn.scan` or
    `nn.vmap` stacks have a number in PyTorch, as in `layers.0.conv`. The arrays of attention and of
    recurrent cells may be packed as in `MultiheadAttention`, `LSTM` and `GRU`; see
    `aff_jax.convert.packing`. Weights under `weight_norm` and `spectral_norm` are folded; see
    `aff_jax.convert.reparametrizations`.

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
        rename: New prefixes by the prefixes in `source`, such as `{"encoder.fuse": "AFF_0"}`; or
            new text by `re.Pattern`, or a function of a name.
        ignore: Names in `source`, after `prefix` was removed, of arrays that have no counterpart,
            such as buffers. `*` is any text, as in `*.position_ids`.

    Returns:
        The collections "params" and "batch_stats", in the dtypes of `module`. For an `IAFF` with
        `share_global`, "unread" contains the second global branch, which PyTorch's iAFF has and
        never reads. `to_torch` writes it again.

    Raises:
        TypeError: If an argument has a wrong type, for example because two are swapped.
        DifferentArraysError: If arrays are missing, unexpected or misshapen. This `ValueError` of
            `aff_jax.differences` has all of them in its attribute `differences`.
        ValueError: If the file is not one of PyTorch or safetensors.
    """
    call = "from_torch(source, module, *example_inputs)"
    # A module as `source` means that the arguments are swapped.
    check_model_and_variables(call, module, source if isinstance(source, nn.Module) else {})
    if isinstance(source, str | PathLike):
        arrays, where = read_weights(source, {"mxnet": "from_mxnet"}), str(source)
    else:
        arrays, where = unwrap_state_dict(source), "the state dict"
    arrays = drop_ignored(select_prefix(arrays, prefix), ignore)
    arrays = rename_arrays(arrays, rename)
    arrays = {n: array for n, array in arrays.items() if n.rpartition(".")[2] not in _IGNORED}
    structure = inspect_module(module, example_inputs, kwargs=kwargs)
    entries, layers = list_entries(structure, PYTORCH), list_forms(structure)
    packed = {name: None for forms in layers for form in forms for name in form.parts}
    arrays = fold_reparametrizations(arrays, packed | {entry.name: entry for entry in entries})
    return arrays_to_variables(entries, unpack(arrays, layers), where)


def to_torch(
    variables: Variables,
    module: nn.Module,
    *example_inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    rename: Rename | None = None,
    names: Iterable[str] | None = None,
) -> dict[str, np.ndarray]:
    """Convert the variables of a linen module to a PyTorch state dict of NumPy arrays.

    The result is the bit-exact inverse of `from_torch`, with these exceptions:
    `num_batches_tracked` is reset, the two biases of a recurrent cell are their sum and zeros, and
    weights that were under `weight_norm` or `spectral_norm` stay folded. Load it into a PyTorch
    module with `module.load_state_dict({k: torch.from_numpy(v) for k, v in arrays.items()})`.

    Args:
        variables: Variables of `module`.
        module: Linen module.
        *example_inputs: As in `from_torch`.
        kwargs: As in `from_torch`.
        rename: As in `from_torch`; it is applied in reverse. Patterns and functions need `names`.
        names: Names of the state dict to write, such as `torch_module.state_dict()`. They also
            select how attention and recurrent cells are stored. The default is PyTorch's own
            modules `MultiheadAttention`, `LSTM` and so on, or the layers that `rename` names.

    Returns:
        Arrays by PyTorch's names, in PyTorch's layouts and the dtypes of the variables.

    Raises:
        TypeError: If an argument has a wrong type, for example because two are swapped.
        DifferentArraysError: If the variables do not match the module, or an array has no name
            among `names`. This `ValueError` of `aff_jax.differences` has all of these arrays in its
            attribute `differences`.
        ValueError: If `rename` cannot be inverted.
    """
    check_model_and_variables("to_torch(variables, module, *example_inputs)", module, variables)
    structure = inspect_module(
        module, example_inputs, kwargs=kwargs, channels=image_channels(variables)
    )
    entries = list_entries(structure, PYTORCH)
    written = variables_to_arrays(entries, variables)
    new_names: list[str] = []
    if names is not None:
        new_names = list(rename_arrays(dict.fromkeys(names), rename, strict=False))
    new_prefixes = list(rename.values()) if isinstance(rename, Mapping) else []
    packed = pack(written, list_forms(structure), new_names, new_prefixes)
    unread = {entry.name for entry in entries if entry.collection == UNREAD}
    if names is not None and (missing := sorted(packed.keys() - set(new_names) - unread)):
        raise DifferentArraysError(
            "names has no name for some arrays",
            [f"  unnamed     {name} {packed[name].shape}" for name in missing],
            f"The first names are, after rename, {', '.join(new_names[:3])}. Probably `rename` "
            f"differs from the one in from_torch, or the PyTorch module has weight_norm or "
            f"spectral_norm: remove it there first.",
        )
    packed |= {counter: np.zeros((), np.int64) for counter in _counters(entries)}
    return restore_names(packed, rename, names)


def _counters(entries: Sequence[Entry]) -> list[str]:
    return [e.name.replace("running_var", _COUNTER) for e in entries if "running_var" in e.name]
