"""Functions without weights that a network may apply between two layers, as PyTorch has them.

They are the candidates for what stands between two recorded activations. All take and return
float64 arrays; images are `(batch, height, width, channels)`.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

__all__ = [
    "Function",
    "apply_torch",
    "list_activations",
    "list_poolings",
    "list_resizings",
    "negative_slope",
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


def list_activations() -> list[Function]:
    """List activation functions.

    Returns:
        The identity first, then the others, the most common ones first.
    """
    import torch
    from torch.nn import functional as F

    def of(function: Callable[..., Any], **options: Any) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: apply_torch(function, x, **options)

    return [
        ("the identity", lambda x: x),
        ("relu", lambda x: np.maximum(x, 0)),
        ("gelu with erf", of(F.gelu)),
        ("gelu with tanh", of(F.gelu, approximate="tanh")),
        ("gelu with sigmoid, x * sigmoid(1.702 x)", lambda x: x / (1 + np.exp(-1.702 * x))),
        ("silu", of(F.silu)),
        ("sigmoid", of(torch.sigmoid)),
        ("tanh", of(torch.tanh)),
        ("elu", of(F.elu)),
        ("selu", of(F.selu)),
        ("celu", of(F.celu)),
        ("relu6", of(F.relu6)),
        ("hard_swish", of(F.hardswish)),
        ("hard_sigmoid", of(F.hardsigmoid)),
        ("hard_tanh", of(F.hardtanh)),
        ("softplus", of(F.softplus)),
        ("mish", of(F.mish)),
        ("softsign", of(F.softsign)),
        ("log_sigmoid", of(F.logsigmoid)),
        ("exp", of(torch.exp)),
        ("the square", lambda x: np.square(x)),
        ("relu squared", lambda x: np.square(np.maximum(x, 0))),
        ("softmax over the channels", of(torch.softmax, dim=-1)),
        ("softmax over axis 1", of(torch.softmax, dim=1)),
        ("log_softmax over the channels", of(torch.log_softmax, dim=-1)),
        ("division by the L2 norm of the channels", of(F.normalize, dim=-1)),
    ]


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
    expected = np.where(negative, slope * x, x)
    is_leaky = np.allclose(y, expected, rtol=1e-4, atol=1e-5 * float(np.max(np.abs(x))))
    return slope if is_leaky else None


def list_poolings(size: tuple[int, ...], target: tuple[int, ...]) -> Iterator[Function]:
    """List poolings of images that map one spatial size to another.

    Args:
        size: Height and width of the input.
        target: Height and width of the output.

    Yields:
        Maximum and average pooling with windows from 2 to 7, global pooling, and strided slicing.
    """
    from torch.nn import functional as F

    def images(function: Callable[..., Any], **options: Any) -> Callable[[np.ndarray], np.ndarray]:
        def apply(x: np.ndarray) -> np.ndarray:
            result = apply_torch(function, np.moveaxis(x, -1, 1), **options)
            return np.moveaxis(result, 1, -1)

        return apply

    if target == (1, 1):
        yield "the mean over the image", lambda x: x.mean((1, 2), keepdims=True)
        yield "the maximum over the image", lambda x: x.max((1, 2), keepdims=True)
    for window, stride in itertools.product((2, 3, 4, 5, 7), (1, 2, 3, 4)):
        if stride > window:
            continue
        # Padding before and after: PyTorch's, and that of "SAME".
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
            pads = (before, after, before, after)
            options = {"kernel_size": window, "stride": stride}
            yield (
                f"maximum {what}",
                images(
                    lambda x, pads=pads, options=options: F.max_pool2d(
                        F.pad(x, pads, value=-np.inf), **options
                    )
                ),
            )
            yield (
                f"average {what}",
                images(
                    lambda x, pads=pads, options=options: F.avg_pool2d(F.pad(x, pads), **options)
                ),
            )
            if before or after:
                counted = f"average {what}, with the padding not counted"
                yield (
                    counted,
                    images(
                        lambda x, pads=pads, options=options: (
                            F.avg_pool2d(F.pad(x, pads), **options)
                            / F.avg_pool2d(F.pad(x * 0 + 1, pads), **options)
                        )
                    ),
                )
    for stride in (2, 3, 4):
        for start in range(stride):
            kept = slice(start, None, stride)
            ordinal = {2: "2nd", 3: "3rd", 4: "4th"}[stride]
            yield f"every {ordinal} pixel, from {start}", functools.partial(_slice, kept=kept)


def _slice(x: np.ndarray, kept: slice) -> np.ndarray:
    return x[:, kept, kept]


def list_resizings(target: tuple[int, ...]) -> Iterator[Function]:
    """List ways to resize images.

    Args:
        target: Height and width of the output.

    Yields:
        Nearest, bilinear and bicubic interpolation, with and without aligned corners, and the
        bilinear one with an antialiasing filter.
    """
    from torch.nn import functional as F

    options: list[dict[str, Any]] = [
        {"mode": "nearest"},
        {"mode": "bilinear", "align_corners": False},
        {"mode": "bilinear", "align_corners": True},
        {"mode": "bilinear", "align_corners": False, "antialias": True},
        {"mode": "bicubic", "align_corners": False},
        {"mode": "bicubic", "align_corners": True},
        {"mode": "nearest-exact"},
    ]
    for option in options:
        listed = ", ".join(f"{name}={value!r}" for name, value in option.items())

        def resize(x: np.ndarray, option: dict[str, Any] = option) -> np.ndarray:
            moved = np.moveaxis(x, -1, 1)
            return np.moveaxis(apply_torch(F.interpolate, moved, size=target, **option), 1, -1)

        yield f"resizing with {listed}", resize
