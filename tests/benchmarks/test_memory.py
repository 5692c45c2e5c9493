"""Peak memory, of steps whose memory is known."""

import jax
import jax.numpy as jnp
import torch

from benchmarks.memory import peak_bytes_of_torch, peak_bytes_of_xla


def test_torch_counts_what_is_held_and_what_is_allocated_at_a_time():
    held = torch.ones(1000)

    def step():
        first = held * 2  # 4,000 bytes
        second = first * 2  # 4,000 more, with the first one still there
        del first
        return (second * 2).sum()  # and another 4,000 in the place of the first, and the sum

    assert 12_000 <= peak_bytes_of_torch(step, [held]) <= 12_000 + 256


def test_xla_counts_once_what_is_given_away():
    x = jnp.ones(1000)
    kept = jax.jit(lambda x: x + 1).lower(x).compile()
    given = jax.jit(lambda x: x + 1, donate_argnums=0).lower(x).compile()
    assert peak_bytes_of_xla(kept) == 8000
    assert peak_bytes_of_xla(given) == 4000
