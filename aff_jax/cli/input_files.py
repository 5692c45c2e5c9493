"""Inputs of two networks from a file of arrays."""

import inspect
import re
import zipfile
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np

__all__ = ["bind_inputs", "read_inputs"]


def read_inputs(path: str) -> dict[str, np.ndarray]:
    """Read the arrays of a file that `numpy.savez` wrote.

    Args:
        path: An .npz file.

    Returns:
        The arrays by name. Names "arr_0", "arr_1" and so on are sorted by their numbers. Other
        names have the order of the file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is of another kind, has no arrays, or has Python objects.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path}: expected an .npz file. Write the inputs with "
            f"`numpy.savez({str(Path(path).with_suffix('.npz'))!r}, x)`."
        )
    with np.load(path) as file:
        try:
            arrays = {name: file[name] for name in file.files}
        except ValueError as error:
            raise ValueError(f"{path}: expected arrays of numbers: {error}") from error
    if not arrays or not all(isinstance(value, np.ndarray) for value in arrays.values()):
        raise ValueError(f"{path}: expected an .npz file with at least one array.")
    if all(re.fullmatch(r"arr_\d+", name) for name in arrays):
        arrays = dict(sorted(arrays.items(), key=lambda item: int(item[0].removeprefix("arr_"))))
    return arrays


def bind_inputs(
    arrays: dict[str, np.ndarray], module: nn.Module, torch_module: Any
) -> tuple[tuple[np.ndarray, ...], dict[str, np.ndarray]]:
    """Decide which arrays are positional arguments and which are keyword arguments.

    Arrays whose names are arguments of `module` are passed by these names, other arrays in their
    order. If PyTorch's forward has other names, the arrays are passed in the order of the arguments
    of `module`, so that both networks can take them.

    Args:
        arrays: Arrays by name.
        module: The linen module.
        torch_module: The PyTorch module.

    Returns:
        Positional arguments and keyword arguments.

    Raises:
        ValueError: If some names are arguments of `module` and others are not.
    """
    signature = inspect.signature(module.__call__)
    known = [name for name in arrays if name in signature.parameters]
    if not known:
        return tuple(arrays.values()), {}
    unknown = [name for name in arrays if name not in known]
    if unknown:
        raise ValueError(
            f"the inputs {', '.join(unknown)} are not arguments of "
            f"{type(module).__name__}.__call__{signature}, and {', '.join(known)} are. Name all "
            f"arrays after arguments, or none."
        )
    if arrays.keys() <= inspect.signature(torch_module.forward).parameters.keys():
        return (), arrays
    bound = signature.bind_partial(**arrays)
    return bound.args, bound.kwargs
