"""Cost of fusions in compiled programs, as XLA counts it. Nothing is timed."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import aff_jax

pytestmark = pytest.mark.optimized  # the counts depend on XLA's optimizations


class Chain(nn.Module):
    """Blocks of a convolution and a fusion with the skip, as in a pre-activation network."""

    gain: float

    @nn.compact
    def __call__(self, x):
        for _ in range(4):
            y = nn.Conv(8, (3, 3))(nn.relu(aff_jax.BatchNorm()(x, True)))
            x = aff_jax.AFF(gain=self.gain)(y, x, True)
        return x


def bytes_of_a_step(gain):
    """Return the bytes accessed by the gradient of a chain's parameters."""
    x, chain = jax.ShapeDtypeStruct((2, 6, 6, 8), jnp.float32), Chain(gain)
    variables = jax.eval_shape(chain.init, jax.random.key(0), x)

    def loss(params, stats, x):
        tree = {"params": params, "batch_stats": stats}
        return jnp.sum(chain.apply(tree, x, mutable=["batch_stats"])[0] ** 2)

    step = jax.jit(jax.grad(loss))
    compiled = step.lower(variables["params"], variables["batch_stats"], x).compile()
    return compiled.cost_analysis()["bytes accessed"]


def test_a_gain_does_not_recompute_earlier_blocks():
    """With the gain as last factor it was 1.4 times as much, and grew with each block."""
    assert bytes_of_a_step(gain=2.0) == pytest.approx(bytes_of_a_step(gain=1.0), rel=0.02)
