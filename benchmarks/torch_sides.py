"""The sides of PyTorch: eager in both memory layouts, and torch.compile."""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = [
    "COMPILED",
    "EAGER",
    "EAGER_LAST",
    "TORCH_SIDES",
    "autocast",
    "channels_first",
    "channels_last",
    "copies",
    "device",
    "faster_eager",
    "share_machine",
    "speedups",
    "synchronize",
    "torch_dtype",
]

EAGER, EAGER_LAST, COMPILED = "PyTorch", "PyTorch channels-last", "torch.compile"
"""Names of the sides. The compiled module uses the channels-last layout."""

TORCH_SIDES = (EAGER, EAGER_LAST, COMPILED)


def share_machine(threads: int) -> None:
    """Limit the threads of PyTorch, and keep JAX from allocating all memory of a GPU."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    torch.set_num_threads(threads)


def device() -> torch.device:
    """Return the GPU if PyTorch has one, otherwise the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronize(_: object = None) -> None:
    """Wait for the GPU. Results on a CPU are ready when they are returned."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def torch_dtype(name: str) -> torch.dtype:
    """Return PyTorch's dtype of that name."""
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def autocast(dtype: str) -> torch.autocast:
    """Return a context for mixed precision, which is disabled for float32."""
    return torch.autocast(device().type, torch_dtype(dtype), enabled=dtype != "float32")


def copies(
    make: Callable[[], nn.Module], with_compiled: bool, dtype: torch.dtype | None = None
) -> Iterator[tuple[str, Any, nn.Module, torch.memory_format]]:
    """Yield, for each side, its name, its callable, the module with the parameters, and its layout.

    Args:
        make: Makes the module, with the same parameters each time.
        with_compiled: Include torch.compile.
        dtype: Dtype of the parameters, or None to keep theirs.

    Yields:
        Name, callable, module and memory layout of a side.
    """
    # Otherwise torch.compile would compile one program with dynamic shapes for several cases.
    torch._dynamo.reset()
    for name in TORCH_SIDES if with_compiled else (EAGER, EAGER_LAST):
        layout = torch.contiguous_format if name == EAGER else torch.channels_last
        module: Any = make().to(device=device(), dtype=dtype)
        module = module.to(memory_format=layout)
        called = torch.compile(module, dynamic=False) if name == COMPILED else module
        yield name, called, module, layout


def channels_first(array: np.ndarray, layout: torch.memory_format) -> torch.Tensor:
    """Convert (batch, height, width, channels) to a tensor with PyTorch's order of axes."""
    return torch.tensor(array).permute(0, 3, 1, 2).to(device=device(), memory_format=layout)


def channels_last(tensor: torch.Tensor) -> np.ndarray:
    """Convert a tensor to a float32 array (batch, height, width, channels)."""
    array: np.ndarray = tensor.detach().float().permute(0, 2, 3, 1).cpu().numpy()
    return array


def faster_eager(seconds: Mapping[str, float]) -> float:
    """Return the seconds of PyTorch eager in its faster memory layout."""
    return min(seconds[EAGER], seconds[EAGER_LAST])


def speedups(cases: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Return the speed of each side relative to `faster_eager`, from seconds by case and side."""
    return {
        case: {side: faster_eager(seconds) / value for side, value in seconds.items()}
        for case, seconds in cases.items()
    }
