"""Convert MXNet parameters to variables."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import flax.linen as nn
import numpy as np
from flax import traverse_util

from aff_jax.convert.mapping import Variables, arrays_to_variables, list_entries
from aff_jax.convert.prefixes import Rename, drop_ignored, rename_arrays, select_prefix
from aff_jax.convert.rules import MXNET
from aff_jax.convert.weight_files import read_weights, unwrap_state_dict
from aff_jax.inspection import ModulePath, inspect_module
from aff_jax.nn.input_checks import check_model_and_variables

__all__ = ["from_mxnet"]


def from_mxnet(
    source: Mapping[str, Any] | str | PathLike[str],
    module: nn.Module,
    *example_inputs: Any,
    kwargs: Mapping[str, Any] | None = None,
    prefix: str = "",
    rename: Rename | None = None,
    ignore: Sequence[str] = (),
) -> Variables:
    """Convert the parameters of a Gluon network to the variables of a linen module.

    Gluon stores a gamma for a batch norm with `scale=False` and ignores it, so it is dropped.
    Gluon does not train the beta of a batch norm with `center=False`, but adds it. This beta is
    folded into the running mean, which gives the same output in evaluation::

        mean' = mean - beta * sqrt(var + epsilon) / gamma

    Args:
        source: Dict of arrays, or path of a `.params` file, of a network of open-aff's MXNet code.
            Arrays are float32 or float16.
        module: Linen module of the same architecture.
        *example_inputs: Inputs that `module` is called with. Only their shapes are used. Networks
            of `create_model` need none if their images have three channels.
        kwargs: Keyword arguments that `module` is called with, such as `{"train": False}`.
        prefix: Convert only the arrays whose names begin with this prefix, and remove it.
        rename: New prefixes by the prefixes in `source`, or as in `from_torch`.
        ignore: Names of arrays that have no counterpart, as in `from_torch`.

    Returns:
        The collections "params" and "batch_stats", in the dtypes of `module`.

    Raises:
        TypeError: If an argument has a wrong type, for example because two are swapped.
        DifferentArraysError: If arrays are missing, unexpected or misshapen. This `ValueError` of
            `aff_jax.differences` has all of them in its attribute `differences`.
        ValueError: If the file is not an MXNet file.
    """
    call = "from_mxnet(source, module, *example_inputs)"
    # A module as `source` means that the arguments are swapped.
    check_model_and_variables(call, module, source if isinstance(source, nn.Module) else {})
    if isinstance(source, str | PathLike):
        refused = {"torch": "from_torch", "safetensors": "from_torch"}
        arrays, where = read_weights(source, refused), str(source)
    else:
        arrays, where = unwrap_state_dict(source), "the dict"
    arrays = rename_arrays(drop_ignored(select_prefix(arrays, prefix), ignore), rename)
    structure = inspect_module(module, example_inputs, kwargs=kwargs)
    betas: dict[ModulePath, np.ndarray] = {}
    for path in structure.norms:
        norm, name = structure.layers[path].module, MXNET.name_of(path, structure)
        for used, leaf in (("use_scale", "gamma"), ("use_bias", "beta")):
            stored = arrays.get(f"{name}.{leaf}")
            mean = arrays.get(f"{name}.running_mean")
            # An array of the wrong shape is kept, so that the error lists it as unexpected.
            if getattr(norm, used, True) or stored is None or mean is None:
                continue
            if stored.shape != mean.shape:
                continue
            del arrays[f"{name}.{leaf}"]
            if leaf == "beta":
                betas[path] = np.asarray(stored)

    variables = arrays_to_variables(list_entries(structure, MXNET), arrays, where)
    stats = traverse_util.flatten_dict(variables.get("batch_stats", {}))
    params = traverse_util.flatten_dict(variables.get("params", {}))
    for path, beta in betas.items():
        std = np.sqrt(stats[(*path, "var")] + structure.layers[path].module.epsilon)
        shift = beta.astype(std.dtype) * std / params.get((*path, "scale"), 1.0)
        stats[(*path, "mean")] -= shift
    return {**variables, "batch_stats": traverse_util.unflatten_dict(stats)}
