"""PyTorch's state dicts in and out."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import flax.linen as nn
import numpy as np

from aff_jax.convert.entries import Entry
from aff_jax.convert.mapping import (
    Variables,
    list_entries,
    read_arrays,
    renamed,
    write_arrays,
)
from aff_jax.convert.rules import PYTORCH
from aff_jax.convert.weight_files import read_weights, unwrap_state_dict
from aff_jax.inspection import image_channels, inspect_module

__all__ = ["from_torch", "to_torch"]

COUNTER = "num_batches_tracked"
"""PyTorch's batch norm counts steps, and uses the count only where it has no momentum."""


def from_torch(
    source: Mapping[str, Any] | str | PathLike[str],
    module: nn.Module,
    *example_inputs: Any,
    rename: Mapping[str, str] | None = None,
) -> Variables:
    """Variables of a linen module from the state dict of the PyTorch module that it follows.

    `source` is a dict of tensors or arrays, or a .pth, .pt or .safetensors file; wrappings such as
    a "state_dict" key or "module." prefixes come off. `example_inputs` are what `module` is called
    with, only their shapes count; a network of `create_model` needs none for images with three
    channels. Batch norms, dense layers and convolutions are called in PyTorch as in the module,
    with dots, and the parts of `MSCAM`, `AFF`, `IAFF` and of the hosts as in open-aff's code;
    `rename` maps prefixes of `source` to prefixes of that, as in `{"encoder.fuse": "AFF_0"}`.

    Returns {"params", "batch_stats"}, in the dtypes that `module` gives them. For an `IAFF` with
    `share_global`, "unread" holds what PyTorch's iAFF has and never reads, for `to_torch`.

        >>> import torch, flax.linen as nn, jax.numpy as jnp
        >>> theirs = torch.nn.Conv2d(3, 8, 5)
        >>> variables = from_torch(theirs.state_dict(), nn.Conv(8, (5, 5)), jnp.zeros((1, 9, 9, 3)))
        >>> variables["params"]["kernel"].shape
        (5, 5, 3, 8)

    Raises:
        ValueError: an array is missing, unexpected or misshapen (all are listed), or a file is not
            what its ending says.
    """
    if isinstance(source, str | PathLike):
        arrays, what = read_weights(source), str(source)
    else:
        arrays, what = unwrap_state_dict(source), "the state dict"
    arrays = renamed(arrays, rename)
    entries = list_entries(inspect_module(module, example_inputs), PYTORCH)
    for counter in _counters(entries):
        arrays.pop(counter, None)
    return read_arrays(entries, arrays, what)


def to_torch(
    variables: Variables,
    module: nn.Module,
    *example_inputs: Any,
    rename: Mapping[str, str] | None = None,
) -> dict[str, np.ndarray]:
    """The state dict of the PyTorch module that a linen module follows, as arrays.

    The inverse of `from_torch`, to the bit; `example_inputs` and `rename` as there. Counters of
    batches are zero. `torch_module.load_state_dict({k: torch.from_numpy(v) ...})` takes it.

    Raises:
        ValueError: the variables are not this module's; lists every leaf that differs.
    """
    structure = inspect_module(module, example_inputs, channels=image_channels(variables))
    entries = list_entries(structure, PYTORCH)
    written = write_arrays(entries, variables)
    written |= {counter: np.zeros((), np.int64) for counter in _counters(entries)}
    return renamed(written, {ours: theirs for theirs, ours in (rename or {}).items()})


def _counters(entries: Sequence[Entry]) -> list[str]:
    return [e.name.replace("running_var", COUNTER) for e in entries if "running_var" in e.name]
