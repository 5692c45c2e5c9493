"""Count the floating-point operations of matrix products and convolutions, loops included."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

__all__ = ["count_product_flops"]


def count_product_flops(jaxpr: Any) -> int:
    """Count the FLOPs of the matrix products and convolutions of a traced function.

    XLA's own count, `aff_jax.inspection.count_flops`, has every operation, counts the body of a
    loop once, and is not known for a program that does not fit.

    A multiply-add is two operations. Products with the padding of a convolution, or with the zeros
    that a dilation inserts, are not counted. A `scan` counts as often as it runs, and in a
    `shard_map` the operations of one device are counted.

    Args:
        jaxpr: The jaxpr of the function, closed or not.

    Returns:
        Number of operations.
    """
    total = 0
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        name = equation.primitive.name
        if name == "dot_general":
            total += _dot_flops(equation)
        elif name == "conv_general_dilated":
            total += _convolution_flops(equation)
        else:
            inner = [count_product_flops(sub) for sub in _jaxprs(equation.params.values())]
            if name == "cond":
                total += max(inner, default=0)
            else:
                total += (equation.params["length"] if name == "scan" else 1) * sum(inner)
    return total


def _jaxprs(values: Any) -> Iterator[Any]:
    """Yield the jaxprs among the parameters of an equation."""
    for value in values:
        if isinstance(value, tuple | list):
            yield from _jaxprs(value)
        elif hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns"):
            yield value


def _dot_flops(equation: Any) -> int:
    """Return the FLOPs of a matrix product: each output value sums over the contracted axes."""
    (contracted, _), _ = equation.params["dimension_numbers"]
    sides = equation.invars[0].aval.shape
    output: int = math.prod(equation.outvars[0].aval.shape)
    return 2 * output * math.prod(sides[axis] for axis in contracted)


def _convolution_flops(equation: Any) -> int:
    """Return the FLOPs of a convolution: products of a weight and an input value that exists."""
    lhs, rhs = (variable.aval.shape for variable in equation.invars)
    output = equation.outvars[0].aval.shape
    parameters = equation.params
    numbers = parameters["dimension_numbers"]
    out_batch, out_features = (output[axis] for axis in numbers.out_spec[:2])
    in_features = rhs[numbers.rhs_spec[1]]
    pairs = math.prod(
        _pairs(*sides, stride=stride, padding=padding, lhs_dilation=dilation, rhs_dilation=holes)
        for sides, stride, padding, dilation, holes in zip(
            zip(
                (lhs[axis] for axis in numbers.lhs_spec[2:]),
                (rhs[axis] for axis in numbers.rhs_spec[2:]),
                (output[axis] for axis in numbers.out_spec[2:]),
                strict=True,
            ),
            parameters["window_strides"],
            parameters["padding"],
            parameters["lhs_dilation"],
            parameters["rhs_dilation"],
            strict=True,
        )
    )
    return 2 * out_batch * out_features * in_features * pairs


def _pairs(
    size: int,
    window: int,
    output: int,
    *,
    stride: int,
    padding: Sequence[int],
    lhs_dilation: int,
    rhs_dilation: int,
) -> int:
    """Return the number of pairs of an output and a window position that meet an input value.

    The others meet padding or a zero of the dilation, of one spatial axis. A gradient with stride 2
    is a convolution with dilation 2, where three of four products are with such zeros.
    """
    positions = np.arange(output)[:, None] * stride + np.arange(window) * rhs_dilation - padding[0]
    inside = (positions >= 0) & (positions <= (size - 1) * lhs_dilation)
    return int(np.sum(inside & (positions % lhs_dilation == 0)))
