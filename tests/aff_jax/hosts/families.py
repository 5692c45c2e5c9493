"""A small network of each class of hosts, and functions that the tests of hosts share."""

import jax
import jax.numpy as jnp
import numpy as np

from aff_jax import create_model

RESIDUAL = {"base_channels": 8, "blocks_per_stage": (1, 1), "reduction": 4}

FAMILIES = {
    "cifar_resnet8": {},
    "cifar_resnext29_32x4d": {**RESIDUAL, "groups": 2, "width_per_group": 32},
    "inception8": {},
    "fpn_resnet20": {"blocks_per_stage": (1, 1, 1)},
    "unet_resnet20": {"blocks_per_stage": (1, 1, 1)},
    "resnet18": RESIDUAL,
    "resnet50_v1d": {**RESIDUAL, "stem_width": 4, "fusion_start": 1},
}
"""A registered name of each class, and the fields that make it small."""


def small(name, fusion="aff", **fields):
    """Return the small network of a family, with three classes."""
    return create_model(name, fusion, **{"num_classes": 3, **FAMILIES[name], **fields})


def normal(shape, seed=0):
    return np.float32(np.random.default_rng(seed).standard_normal(shape))


def shapes_of(model, shape=(1, 8, 8, 3)):
    """Return the variables that a model has for inputs of this shape, in shape and dtype."""
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))


def count_parameters(model):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes_of(model)["params"]))


def attention_parameters(c, branches):
    """Return the number of parameters of branches of MS-CAM: two layers and two norms, r = 4."""
    h = c // 4
    return branches * (c * h + h + 2 * h + h * c + c + 2 * c)


def convolve(x, kernel, strides=1, groups=1, dilation=1):
    """Convolve with a margin of half the span of the kernel, channels last, window by window."""
    size, ins, outs = kernel.shape[0], x.shape[-1] // groups, kernel.shape[-1] // groups
    margin = size // 2 * dilation
    span = (size - 1) * dilation + 1
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    height, width = (-(-length // strides) for length in x.shape[1:3])
    result = np.zeros((len(x), height, width, kernel.shape[-1]))
    for row, column, group in np.ndindex(height, width, groups):
        top, left = row * strides, column * strides
        window = padded[:, top : top + span : dilation, left : left + span : dilation]
        window = window[..., group * ins : (group + 1) * ins]
        out = slice(group * outs, (group + 1) * outs)
        result[:, row, column, out] = np.tensordot(window, kernel[..., out], 3)
    return result


def pool(x):
    """Return the means of 2x2 windows, which are smaller at the edges."""
    rows = [
        [x[:, i : i + 2, j : j + 2].mean((1, 2)) for j in range(0, x.shape[2], 2)]
        for i in range(0, x.shape[1], 2)
    ]
    return np.moveaxis(np.asarray(rows), 2, 0)
