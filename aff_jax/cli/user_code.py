"""Networks that the user's own files create."""

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np

from aff_jax.convert.weight_files import read_weights

__all__ = ["make_linen_module", "make_torch_module"]


def make_torch_module(text: str, checkpoint: str | None) -> Any:
    """Create a PyTorch module and load a checkpoint into it.

    Args:
        text: "file.py:name", where `name` is a callable that returns the module.
        checkpoint: File with its state dict, or None.

    Returns:
        The PyTorch module.

    Raises:
        ValueError: If there is no such callable, it raises an error or returns something else, or
            the checkpoint does not match.
    """
    import torch

    module = _call(text, "the PyTorch module")
    if not isinstance(module, torch.nn.Module):
        raise ValueError(f"{text}: expected a torch.nn.Module, got a {type(module).__name__}.")
    if checkpoint:
        arrays = read_weights(checkpoint)
        narrow = {k: v.astype(np.float32) if v.dtype.kind == "V" else v for k, v in arrays.items()}
        try:
            module.load_state_dict({k: torch.from_numpy(v) for k, v in narrow.items()})
        except RuntimeError as error:
            raise ValueError(f"{checkpoint} does not match {text}: {error}") from error
    return module


def make_linen_module(text: str) -> tuple[nn.Module, Mapping[str, Any] | None]:
    """Create a linen module, and its variables if the user's code returns them too.

    Args:
        text: "file.py:name", where `name` is a callable that returns the module, or a pair of the
            module and its variables.

    Returns:
        The module, and its variables or None.

    Raises:
        ValueError: If there is no such callable, or it raises an error or returns something else.
    """
    made = _call(text, "the linen module, or a pair of the module and its variables")
    module, variables = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"{text}: expected a flax.linen.Module, or a pair of it and its variables, got a "
            f"{type(made).__name__}."
        )
    is_mapping = isinstance(variables, Mapping)
    if variables is not None and not (is_mapping and (not variables or "params" in variables)):
        raise ValueError(
            f"{text}: expected variables as `module.init` returns them, with the key 'params'."
        )
    return module, variables


def _call(text: str, result: str) -> Any:
    make = _load_callable(text, result)
    try:
        return make()
    except Exception as error:  # the user's code may raise anything
        raise ValueError(f"{text} raised {type(error).__name__}: {error}") from error


def _load_callable(text: str, result: str) -> Any:
    """Import a callable given as "file.py:name"."""
    file, _, name = text.rpartition(":")
    # The prefix avoids names of installed packages. Dataclasses look their module up by its name.
    module_name = f"_file_{Path(file).stem}"
    spec = importlib.util.spec_from_file_location(module_name, file) if file else None
    if spec is None or spec.loader is None or not Path(file).exists():
        raise ValueError(
            f"expected FILE.py:CALLABLE, a file and a function or class in it that returns "
            f"{result}, got {text!r}."
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    directory = str(Path(file).resolve().parent)
    if directory not in sys.path:
        sys.path.append(directory)  # the file may import its neighbors
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        raise ValueError(f"{file} raised {type(error).__name__}: {error}") from error
    if not hasattr(module, name):
        raise ValueError(f"{file} does not define {name!r}.")
    return getattr(module, name)
