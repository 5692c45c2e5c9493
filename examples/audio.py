"""Fuse two streams of audio features with the AFF of ERes2Net, with weights from PyTorch.

    python examples/audio.py

needs `pip install -e '.[torch]'`. ERes2Net of 3D-Speaker fuses maps of frequency and time. The same
module fuses sequences (batch, time, channels), since AFF takes any number of axes between batch and
channels. Its attention reads the concatenation of both streams, has only a local branch, and gives
the weights 1 + tanh(l) and 1 - tanh(l). Since 1 + tanh(l) = 2 sigmoid(2 l), this is AFF with a gain
of 2 and twice the logit.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import torch

import aff_jax

CHANNELS = 64


class TorchAFF(torch.nn.Module):
    """The fusion of ERes2Net for (batch, channels, time)."""

    def __init__(self, channels):
        super().__init__()
        self.local_att = torch.nn.Sequential(
            torch.nn.Conv1d(2 * channels, channels // 4, 1),
            torch.nn.BatchNorm1d(channels // 4),
            torch.nn.SiLU(),
            torch.nn.Conv1d(channels // 4, channels, 1),
            torch.nn.BatchNorm1d(channels),
        )

    def forward(self, x, y):
        shift = torch.tanh(self.local_att(torch.cat([x, y], dim=1)))
        return x * (1 + shift) + y * (1 - shift)


torch_fusion = TorchAFF(CHANNELS)  # or one from a checkpoint, with load_state_dict
fusion = aff_jax.AFF(gain=2, combine="concat", scales=("local",), activation=nn.silu, logit_scale=2)

# Two streams of 100 frames, such as the outputs of two stages at the same rate.
x, y = jax.random.normal(jax.random.key(0), (2, 8, 100, CHANNELS))
variables = aff_jax.convert.from_torch(torch_fusion.state_dict(), fusion, x, y)
print("parameters:", sum(leaf.size for leaf in jax.tree.leaves(variables["params"])))

result = aff_jax.parity.compare(torch_fusion, fusion, variables, x, y)
print(f"equal to PyTorch: {result.equal}")

fused, sown = fusion.apply(variables, x, y, mutable=["intermediates"])
(weights,) = sown["intermediates"]["fusion_weights"]
print(f"fused: {fused.shape}, weights of x: {weights.min():.2f} to {weights.max():.2f}")

# In training, the running statistics of batch normalization come back.
fused, updates = fusion.apply(variables, x, y, train=True, mutable=["batch_stats"])
print("running statistics:", jax.tree.map(jnp.shape, updates["batch_stats"]))
