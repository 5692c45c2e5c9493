"""State dicts of open-aff's PyTorch code with random values, and random inputs."""

import numpy as np
import torch

from tests.reference import torch_aff


def randomized(module, seed=0):
    """Return the module in evaluation mode, with random statistics, scales and biases."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.ndim == 1:
                noise = torch.randn(value.shape, generator=generator)
                value.copy_(value + 0.3 * (noise.abs() if "var" in name else noise))
    return module.eval()


def channels_first(x):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def images(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, array in other.items():
        np.testing.assert_array_equal(one[name], array, err_msg=name, strict=True)


def aff_state(channels=8):
    return {k: v.numpy() for k, v in randomized(torch_aff.AFF(channels)).state_dict().items()}
