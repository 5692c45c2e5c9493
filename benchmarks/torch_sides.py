"""PyTorch's sides: eager in both memory layouts, and torch.compile."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = [
    "SIDES",
    "channels_first",
    "channels_last",
    "copies",
    "device",
    "share_machine",
    "synchronize",
]

EAGER, EAGER_LAST, COMPILED = "PyTorch", "PyTorch channels-last", "torch.compile"
SIDES = (EAGER, EAGER_LAST, COMPILED)
"""Names of the sides; what is compiled is channels-last."""


def share_machine(threads: int) -> None:
    """To be called first: PyTorch has so many threads, and JAX leaves it memory on a GPU."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    torch.set_num_threads(threads)


def device() -> torch.device:
    """The accelerator, where PyTorch has one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronize(_: object = None) -> None:
    """Wait for the accelerator; a CPU's results are there when they are returned."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def copies(
    make: Callable[[], nn.Module], with_compiled: bool, dtype: torch.dtype | None = None
) -> Iterator[tuple[str, Any, nn.Module, torch.memory_format]]:
    """Of each side: its name, what is called, the module with the parameters, and the layout.

    `make` gives the same module each time. What was compiled for others is forgotten first, or
    torch.compile would make one program for all shapes.
    """
    torch._dynamo.reset()
    for name in SIDES if with_compiled else SIDES[:2]:
        layout = torch.contiguous_format if name == EAGER else torch.channels_last
        module: Any = make().to(device=device(), dtype=dtype)
        module = module.to(memory_format=layout)
        called = torch.compile(module, dynamic=False) if name == COMPILED else module
        yield name, called, module, layout


def channels_first(array: np.ndarray, layout: torch.memory_format) -> torch.Tensor:
    """(batch, height, width, channels) as PyTorch's axes, in that layout of memory."""
    return torch.tensor(array).permute(0, 3, 1, 2).to(device=device(), memory_format=layout)


def channels_last(tensor: torch.Tensor) -> np.ndarray:
    """The inverse, in single precision."""
    found: np.ndarray = tensor.detach().float().permute(0, 2, 3, 1).cpu().numpy()
    return found
