"""How much memory a training step needs at its peak, by what each framework knows of it."""

from collections.abc import Callable, Iterable
from typing import Any

import torch

__all__ = ["peak_bytes_of_torch", "peak_bytes_of_xla"]


def peak_bytes_of_xla(compiled: Any) -> int:
    """Of a compiled program: arguments, results and temporary arrays.

    A result that takes the place of an argument that is given away is counted once.
    """
    found = compiled.memory_analysis()
    return int(
        found.argument_size_in_bytes
        + found.output_size_in_bytes
        - found.alias_size_in_bytes
        + found.temp_size_in_bytes
    )


def peak_bytes_of_torch(step: Callable[[], Any], held: Iterable[torch.Tensor]) -> int:
    """The most that PyTorch has allocated in a step, what was there before it included.

    `step` has run before, so that the optimizer has its state; `held` are all tensors that it then
    finds, gradients included. Other networks' may be on the device too, and are not counted.
    """
    before = sum(tensor.nbytes for tensor in held)
    return before + (_rise_on_gpu(step) if torch.cuda.is_available() else _rise_on_cpu(step))


def _rise_on_gpu(step: Callable[[], Any]) -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _rise_on_cpu(step: Callable[[], Any]) -> int:
    """By the profiler, which tells each allocation (positive) and release (negative)."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        step()
    # The public tables add up per operator, and lose the order that a peak needs.
    kineto: Any = profile.profiler
    events = [e for e in kineto.kineto_results.events() if e.name() == "[memory]"]
    allocated = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        allocated += event.nbytes()
        peak = max(peak, allocated)
    return peak
