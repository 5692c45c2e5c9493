"""The formulas of all modules in float64 NumPy, written without JAX. Arrays are channels-last.

Parameters and statistics are trees as in the modules. In training, the running statistics are
updated in place.
"""

import numpy as np

MOMENTUM, EPSILON = 0.9, 1e-5


def batch_norm(x, params, stats, train, unbiased=False):
    """Compute (x - mean) / sqrt(var + epsilon) * scale + bias and update the statistics."""
    mean, var = stats["mean"], stats["var"]
    if train:
        rows = x.reshape(-1, x.shape[-1])
        mean = rows.sum(axis=0) / len(rows)
        var = ((rows - mean) ** 2).sum(axis=0) / len(rows)
        kept = var * len(rows) / (len(rows) - 1) if unbiased else var
        stats["mean"] = MOMENTUM * stats["mean"] + (1 - MOMENTUM) * mean
        stats["var"] = MOMENTUM * stats["var"] + (1 - MOMENTUM) * kept
    return (x - mean) / np.sqrt(var + EPSILON) * params["scale"] + params["bias"]


def relu(x):
    return np.maximum(x, 0)


def silu(x):
    return x / (1 + np.exp(-x))


def branch(z, params, stats, train, act=relu, unbiased=False):
    """Compute BN(W2 act(BN(W1 z + b1)) + b2)."""
    z = z @ params["reduce"]["kernel"] + params["reduce"]["bias"]
    z = batch_norm(z, params["reduce_norm"], stats["reduce_norm"], train, unbiased)
    z = act(z) @ params["expand"]["kernel"] + params["expand"]["bias"]
    return batch_norm(z, params["expand_norm"], stats["expand_norm"], train, unbiased)


def spatial_mean(z):
    for axis in range(1, z.ndim - 1):
        z = z.sum(axis=axis, keepdims=True) / z.shape[axis]
    return z


def logits(z, params, stats, train, names=("local", "global"), logit_scale=1, **options):
    """Sum the branches in `names`."""
    total = 0
    for name in names:
        pooled = z if name.startswith("local") else spatial_mean(z)
        total = total + branch(pooled, params[name], stats[name], train, **options)
    return logit_scale * total


def weights(z, params, stats, train, **options):
    """Compute M(z) from the branches in `names`."""
    return 1 / (1 + np.exp(-logits(z, params, stats, train, **options)))


def ms_cam(x, params, stats, train=False, **options):
    return x * weights(x, params, stats, train, **options)


def aff(x, y, params, stats, train=False, gain=1, concat=False, **options):
    z = np.concatenate([x, y], axis=-1) if concat else x + y
    m = weights(z, params, stats, train, **options)
    return gain * (x * m + y * (1 - m))


def iaff(x, y, params, stats, train=False, gain=1, passes=(), **options):
    """Apply one pass per tuple of branch names in `passes`."""
    z = x + y
    for names in passes or (("local", "global"), ("local2", "global2")):
        m = weights(z, params, stats, train, names=names, **options)
        z = gain * (x * m + y * (1 - m))
    return z


def concat(x, y, params, stats, train=False):
    z = np.concatenate([x, y], axis=-1)
    z = batch_norm(z, {**params["concat_norm"], "bias": 0}, stats["concat_norm"], train)
    return z @ params["project"]["kernel"] + params["project"]["bias"]


def se(x, y, params, stats, train=False, names=("global",), **options):
    return y + weights(x, params, stats, train, names=names, **options) * x


def gau(x, y, params, stats, train=False, names=("global",), **options):
    return weights(x, params, stats, train, names=names, **options) * y + x


def highway(x, y, params, stats, train=False, names=("global",), **options):
    g = weights(x, params, stats, train, names=names, **options)
    return g * x + (1 - g) * y


def sk(x, y, params, stats, train=False, names=("global",), **options):
    both = logits(x + y, params, stats, train, names=names, **options)
    of_x, of_y = np.exp(both[..., : x.shape[-1]]), np.exp(both[..., x.shape[-1] :])
    return (of_x * x + of_y * y) / (of_x + of_y)
