"""MXNet's parameters in; the framework is retired, so they only ever come in."""

from collections.abc import Mapping
from os import PathLike
from typing import Any

import flax.linen as nn
import numpy as np
from flax import traverse_util

from aff_jax.convert.mapping import Variables, list_entries, read_arrays
from aff_jax.convert.mxnet_params import read_mxnet_params
from aff_jax.convert.rules import MXNET
from aff_jax.convert.weight_files import unwrap_state_dict
from aff_jax.inspection import Path, inspect_module

__all__ = ["from_mxnet"]


def from_mxnet(
    source: Mapping[str, Any] | str | PathLike[str],
    module: nn.Module,
    *example_inputs: Any,
) -> Variables:
    """Variables of a linen module from the parameters of the Gluon network that it follows.

    `source` is a dict of arrays or a .params file, float32 or float16, of open-aff's MXNet code;
    `example_inputs` are what `module` is called with, only their shapes count, and a network of
    `create_model` needs none for images with three channels.

    Gluon stores a gamma for a batch norm with `scale=False` and ignores it; it is left out. The
    beta for `center=False` is never trained, but added: it becomes part of the running mean, which
    is the same in evaluation.

    Returns {"params", "batch_stats"}, in the dtypes that `module` gives them.

    Raises:
        ValueError: an array is missing, unexpected or misshapen (all are listed), or the file is
            not one of MXNet's.
    """
    if isinstance(source, str | PathLike):
        arrays, what = read_mxnet_params(source), str(source)
    else:
        arrays, what = unwrap_state_dict(source), "the dict"
    structure = inspect_module(module, example_inputs)
    betas: dict[Path, np.ndarray] = {}
    for path in structure.norms:
        norm, name = structure.layers[path].module, MXNET.name_of(path, structure)
        for used, leaf in (("use_scale", "gamma"), ("use_bias", "beta")):
            stored = arrays.get(f"{name}.{leaf}")
            mean = arrays.get(f"{name}.running_mean")
            # Of another shape than its batch norm, it stays and is listed as unexpected.
            if getattr(norm, used, True) or stored is None or mean is None:
                continue
            if stored.shape != mean.shape:
                continue
            del arrays[f"{name}.{leaf}"]
            if leaf == "beta":
                betas[path] = np.asarray(stored)

    variables = read_arrays(list_entries(structure, MXNET), arrays, what)
    stats = traverse_util.flatten_dict(variables.get("batch_stats", {}))
    scales = traverse_util.flatten_dict(variables.get("params", {}))
    for path, beta in betas.items():
        # gamma * (x - mean) / deviation + beta, without a beta.
        deviation = np.sqrt(stats[(*path, "var")] + structure.layers[path].module.epsilon)
        shift = beta.astype(deviation.dtype) * deviation / scales.get((*path, "scale"), 1.0)
        stats[(*path, "mean")] -= shift
    return {**variables, "batch_stats": traverse_util.unflatten_dict(stats)}
