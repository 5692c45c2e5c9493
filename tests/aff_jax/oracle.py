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


def branch(u, params, stats, train, act=relu, unbiased=False):
    """Compute BN(W2 act(BN(W1 u + b1)) + b2). The biases and the last BN may be absent."""
    hidden = u @ params["reduce"]["kernel"] + params["reduce"].get("bias", 0)
    hidden = batch_norm(hidden, params["reduce_norm"], stats["reduce_norm"], train, unbiased)
    out = act(hidden) @ params["expand"]["kernel"] + params["expand"].get("bias", 0)
    if "expand_norm" not in params:
        return out
    return batch_norm(out, params["expand_norm"], stats["expand_norm"], train, unbiased)


def spatial_mean(u):
    for axis in range(1, u.ndim - 1):
        u = u.sum(axis=axis, keepdims=True) / u.shape[axis]
    return u


def logits(u, params, stats, train, names=("local", "global"), logit_scale=1, **options):
    """Sum the branches in `names`."""
    total = 0
    for name in names:
        pooled = u if name.startswith("local") else spatial_mean(u)
        total = total + branch(pooled, params[name], stats[name], train, **options)
    return logit_scale * total


def weights(u, params, stats, train, **options):
    """Compute M(u) from the branches in `names`."""
    return 1 / (1 + np.exp(-logits(u, params, stats, train, **options)))


def ms_cam(x, params, stats, train=False, **options):
    return x * weights(x, params, stats, train, **options)


def aff(x, y, params, stats, train=False, gain=1, concat=False, **options):
    u = np.concatenate([x, y], axis=-1) if concat else x + y
    m = weights(u, params, stats, train, **options)
    return gain * (x * m + y * (1 - m))


def iaff(x, y, params, stats, train=False, gain=1, names_of_iterations=(), **options):
    """Apply one iteration per tuple of branch names in `names_of_iterations`."""
    u = x + y
    for names in names_of_iterations or (("local", "global"), ("local2", "global2")):
        m = weights(u, params, stats, train, names=names, **options)
        u = z = gain * (x * m + y * (1 - m))
    return z


def concat(x, y, params, stats, train=False):
    both = np.concatenate([x, y], axis=-1)
    both = batch_norm(both, {**params["concat_norm"], "bias": 0}, stats["concat_norm"], train)
    return both @ params["project"]["kernel"] + params["project"]["bias"]


def se(x, y, params, stats, train=False, names=("global",), **options):
    return y + weights(x, params, stats, train, names=names, **options) * x


def gau(x, y, params, stats, train=False, names=("global",), **options):
    return weights(x, params, stats, train, names=names, **options) * y + x


def highway(x, y, params, stats, train=False, names=("global",), **options):
    g = weights(y, params, stats, train, names=names, **options)
    return g * y + (1 - g) * x


def sk(x, y, params, stats, train=False, gain=1, names=("global",), **options):
    both = logits(x + y, params, stats, train, names=names, **options)
    of_x, of_y = np.exp(both[..., : x.shape[-1]]), np.exp(both[..., x.shape[-1] :])
    return gain * (of_x * x + of_y * y) / (of_x + of_y)
