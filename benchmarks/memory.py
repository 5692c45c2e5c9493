"""Peak memory of a training step, as each framework reports it."""

from collections.abc import Callable, Iterable
from typing import Any

import torch

__all__ = ["peak_bytes_of_torch", "peak_bytes_of_xla"]


def peak_bytes_of_xla(compiled: Any) -> int:
    """Return the bytes of the arguments, results and temporary arrays of a compiled program.

    A result that takes the memory of a donated argument is counted once.

    Args:
        compiled: Compiled program, from `jax.jit(...).lower(...).compile()`.

    Returns:
        Number of bytes.
    """
    found = compiled.memory_analysis()
    return int(
        found.argument_size_in_bytes
        + found.output_size_in_bytes
        - found.alias_size_in_bytes
        + found.temp_size_in_bytes
    )


def peak_bytes_of_torch(step: Callable[[], Any], held: Iterable[torch.Tensor]) -> int:
    """Return the most bytes that PyTorch has allocated at a time during a step.

    Args:
        step: The training step. It must have run before, so that the optimizer has its state.
        held: All tensors that exist before the step, including gradients. Tensors of other networks
            may be on the device and are not counted.

    Returns:
        Number of bytes.
    """
    before = sum(tensor.nbytes for tensor in held)
    is_gpu = torch.cuda.is_available()
    return before + (_increase_on_gpu(step) if is_gpu else _increase_on_cpu(step))


def _increase_on_gpu(step: Callable[[], Any]) -> int:
    """Return the peak increase by the statistics of the allocator."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _increase_on_cpu(step: Callable[[], Any]) -> int:
    """Return the peak increase by the profiler's allocations (positive) and frees (negative)."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        step()
    # The public tables sum over each operator and lose the order of events.
    kineto: Any = profile.profiler
    events = [e for e in kineto.kineto_results.events() if e.name() == "[memory]"]
    allocated = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        allocated += event.nbytes()
        peak = max(peak, allocated)
    return peak
