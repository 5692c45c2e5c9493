"""Functions without weights that a network may apply between two layers, as PyTorch has them.

They are the candidates for what stands between two recorded activations. All take and return
float64 arrays; images are `(batch, height, width, channels)`.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from aff_jax.parity.array_differences import best_factor

__all__ = [
    "Function",
    "apply_torch",
    "leaky_relu",
    "list_activations",
    "list_elementwise",
    "list_poolings",
    "list_reductions",
    "list_resizings",
    "negative_slope",
    "softmax_factor",
]

Function = tuple[str, Callable[[np.ndarray], np.ndarray]]
"""A description and a function of an array."""


def apply_torch(function: Callable[..., Any], array: np.ndarray, **options: Any) -> np.ndarray:
    """Apply a function of PyTorch to an array.

    Args:
        function: Function of a tensor.
        array: The array.
        **options: Keyword arguments of the function.

    Returns:
        The result, in float64.
    """
    import torch

    tensor = torch.from_numpy(np.array(array, np.float64, order="C"))
    result: np.ndarray = function(tensor, **options).numpy()
    return result


def _of(function: Callable[..., Any], **options: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of PyTorch as one of arrays."""
    return lambda x: apply_torch(function, x, **options)


def _of_images(function: Callable[..., Any], **options: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of PyTorch, with channels first, as one of arrays with channels last."""
    apply = _of(function, **options)
    return lambda x: np.moveaxis(apply(np.moveaxis(x, -1, 1)), 1, -1)


def list_elementwise() -> list[Function]:
    """List activation functions of single values.

    Returns:
        The identity first, then the others, the most common ones first.
    """
    import torch
    from torch.nn import functional as F

    return [
        ("the identity", lambda x: x),
        ("relu", lambda x: np.maximum(x, 0)),
        ("gelu with erf", _of(F.gelu)),
        ("gelu with tanh", _of(F.gelu, approximate="tanh")),
        ("gelu with sigmoid, x * sigmoid(1.702 x)", lambda x: x / (1 + np.exp(-1.702 * x))),
        ("silu", _of(F.silu)),
        ("sigmoid", _of(torch.sigmoid)),
        ("tanh", _of(torch.tanh)),
        ("elu", _of(F.elu)),
        ("selu", _of(F.selu)),
        ("celu", _of(F.celu)),
        ("relu6", _of(F.relu6)),
        ("hard_swish", _of(F.hardswish)),
        ("hard_sigmoid", _of(F.hardsigmoid)),
        ("hard_tanh", _of(F.hardtanh)),
        ("softplus", _of(F.softplus)),
        ("mish", _of(F.mish)),
        ("softsign", _of(F.softsign)),
        ("log_sigmoid", _of(F.logsigmoid)),
        ("exp", _of(torch.exp)),
        ("the square", lambda x: np.square(x)),
        ("relu squared", lambda x: np.square(np.maximum(x, 0))),
    ]


def list_activations() -> list[Function]:
    """List activation functions.

    Returns:
        The functions of `list_elementwise`, then functions of all channels or positions.
    """
    import torch
    from torch.nn import functional as F

    return [
        *list_elementwise(),
        ("softmax over the channels", _of(torch.softmax, dim=-1)),
        ("softmax over axis 1", _of(torch.softmax, dim=1)),
        ("log_softmax over the channels", _of(torch.log_softmax, dim=-1)),
        ("division by the L2 norm of the channels", _of(F.normalize, dim=-1)),
    ]


def leaky_relu(x: np.ndarray, slope: float) -> np.ndarray:
    """Compute ``max(x, 0) + slope * min(x, 0)``.

    Args:
        x: Input.
        slope: The slope for negative inputs.

    Returns:
        The output, of the shape of `x`.
    """
    return np.where(x < 0, slope * x, x)


def negative_slope(x: np.ndarray, y: np.ndarray) -> float | None:
    """Return the slope of the leaky ReLU that maps one array to another.

    Args:
        x: Input.
        y: Output of the same shape.

    Returns:
        The slope for negative inputs, or None if `y` is not `max(x, 0) + slope * min(x, 0)`.
    """
    negative = x < 0
    if not negative.any():
        return None
    least = int(np.argmin(x))
    slope = float(y.flat[least] / x.flat[least])
    is_leaky = np.allclose(y, leaky_relu(x, slope), rtol=1e-4, atol=1e-5 * float(np.max(np.abs(x))))
    return slope if is_leaky else None


def softmax_factor(x: np.ndarray, y: np.ndarray) -> float | None:
    """Return the factor that is applied before a softmax over the last axis.

    Args:
        x: Input.
        y: Output of the same shape.

    Returns:
        The factor, or None if `y` is not ``softmax(factor * x)``.
    """
    if not x.ndim or not (np.all(y > 0) and np.allclose(y.sum(-1), 1, atol=1e-4)):
        return None
    centered, logits = (a - a.mean(-1, keepdims=True) for a in (x, np.log(y)))
    factor = best_factor(centered, logits)
    largest = float(np.max(np.abs(logits), initial=0.0))
    is_softmax = factor and np.allclose(factor * centered, logits, rtol=1e-4, atol=1e-5 * largest)
    return factor if is_softmax else None


def list_reductions(source: tuple[int, ...], target: tuple[int, ...]) -> list[Function]:
    """List functions that leave one vector of channels for each example.

    Args:
        source: Shape of the input, `(batch, *spatial, channels)`.
        target: Shape of the output.

    Returns:
        Means, maxima, sums, and single positions. Empty if `target` is not `(batch, channels)`.
    """
    if len(source) < 3 or target != (source[0], source[-1]):
        return []
    axes = tuple(range(1, len(source) - 1))
    over = "positions" if len(source) == 3 else "image"
    functions: list[Function] = [
        (f"the mean over the {over}", lambda x: x.mean(axes)),
        (f"the maximum over the {over}", lambda x: x.max(axes)),
        (f"the sum over the {over}", lambda x: x.sum(axes)),
    ]
    if len(source) == 3:
        functions += [
            ("selection of the first position", lambda x: x[:, 0]),
            ("selection of the last position", lambda x: x[:, -1]),
            ("the mean over the positions without the first", lambda x: x[:, 1:].mean(1)),
        ]
    return functions


def list_poolings(size: tuple[int, ...], target: tuple[int, ...]) -> Iterator[Function]:
    """List poolings that map one spatial size to another.

    Args:
        size: Size of the input along one to three spatial axes.
        target: Size of the output.

    Yields:
        Maximum and average pooling with windows from 2 to 7, global pooling, and strided slicing.
    """
    from torch.nn import functional as F

    axes = tuple(range(1, len(size) + 1))
    max_pool, avg_pool = (getattr(F, f"{kind}_pool{len(size)}d") for kind in ("max", "avg"))
    if target == (1,) * len(size):
        yield "the mean over the image", lambda x: x.mean(axes, keepdims=True)
        yield "the maximum over the image", lambda x: x.max(axes, keepdims=True)
    for window, stride in itertools.product((2, 3, 4, 5, 7), (1, 2, 3, 4)):
        if stride > window:
            continue
        # Padding before and after: the paddings of PyTorch, and "SAME".
        total = [max((t - 1) * stride + window - s, 0) for s, t in zip(size, target, strict=True)]
        same = [(t // 2, t - t // 2) for t in total]
        for before, after in dict.fromkeys([(0, 0), *[(p, p) for p in (1, 2, 3)], same[0]]):
            if before > window // 2 or after > window // 2 or same[0] != same[-1]:
                continue
            reached = tuple((s + before + after - window) // stride + 1 for s in size)
            if reached != target:
                continue
            where = "" if before == after == 0 else f", padding ({before}, {after})"
            what = f"pooling with window {window}, stride {stride}{where}"
            pads = (before, after) * len(size)
            options = {"kernel_size": window, "stride": stride}
            yield (
                f"maximum {what}",
                _of_images(
                    lambda x, pads=pads, options=options: max_pool(
                        F.pad(x, pads, value=-np.inf), **options
                    )
                ),
            )
            yield (
                f"average {what}",
                _of_images(
                    lambda x, pads=pads, options=options: avg_pool(F.pad(x, pads), **options)
                ),
            )
            if before or after:
                counted = f"average {what}, with the padding not counted"
                yield (
                    counted,
                    _of_images(
                        lambda x, pads=pads, options=options: (
                            avg_pool(F.pad(x, pads), **options)
                            / avg_pool(F.pad(x * 0 + 1, pads), **options)
                        )
                    ),
                )
    for stride in (2, 3, 4):
        for start in range(stride):
            kept = slice(start, None, stride)
            ordinal = {2: "2nd", 3: "3rd", 4: "4th"}[stride]
            yield f"every {ordinal} pixel, from {start}", functools.partial(_slice, kept=kept)


def _slice(x: np.ndarray, kept: slice) -> np.ndarray:
    """Keep some of the positions along every spatial axis."""
    return x[:, *(kept,) * (x.ndim - 2)]


def list_resizings(target: tuple[int, ...]) -> Iterator[Function]:
    """List ways to resize.

    Args:
        target: Size of the output along one to three spatial axes.

    Yields:
        Nearest and linear interpolation, with and without aligned corners; for images, also bicubic
        interpolation and an antialiasing filter.
    """
    from torch.nn import functional as F

    linear = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(target)]
    options: list[dict[str, Any]] = [
        {"mode": "nearest"},
        {"mode": linear, "align_corners": False},
        {"mode": linear, "align_corners": True},
        {"mode": "nearest-exact"},
    ]
    if linear == "bilinear":
        options += [
            {"mode": "bilinear", "align_corners": False, "antialias": True},
            {"mode": "bicubic", "align_corners": False},
            {"mode": "bicubic", "align_corners": True},
        ]
    for option in options:
        listed = ", ".join(f"{name}={value!r}" for name, value in option.items())
        yield f"resizing with {listed}", _of_images(F.interpolate, size=target, **option)
