"""Tests of peak memory with steps whose memory is known."""

import jax
import jax.numpy as jnp
import torch

from benchmarks.memory import peak_bytes_of_torch, peak_bytes_of_xla


def test_torch_counts_held_tensors_and_the_peak_of_allocations():
    held = torch.ones(1000)

    def step():
        first = held * 2  # 4,000 bytes
        second = first * 2  # 4,000 more, while the first exists
        del first
        return (second * 2).sum()  # another 4,000 after the first is freed, and the sum

    assert 12_000 <= peak_bytes_of_torch(step, [held]) <= 12_000 + 256


def test_xla_counts_a_donated_argument_once():
    x = jnp.ones(1000)
    kept = jax.jit(lambda x: x + 1).lower(x).compile()
    donated = jax.jit(lambda x: x + 1, donate_argnums=0).lower(x).compile()
    assert peak_bytes_of_xla(kept) == 8000
    assert peak_bytes_of_xla(donated) == 4000
