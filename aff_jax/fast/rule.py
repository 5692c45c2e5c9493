"""The rule that decides when a module takes a shortcut."""

import contextlib
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array

from aff_jax.lookup import look_up
from aff_jax.nn.batch_norm import BatchNorm

__all__ = ["IMPLEMENTATIONS", "RULES", "derives_statistics", "takes_shortcut", "target_platform"]


def takes_shortcut(shortcut: str, implementation: str, **arguments: Any) -> bool:
    """Return whether a module takes a shortcut instead of computing its formula as written.

    With `implementation="plain"` it takes none. With `"auto"` it takes these::

        derived_statistics   in training, in a branch of attention whose norm is `BatchNorm`, if
                             channels >= 2 * hidden, hidden <= 64 and rows >= 16 * hidden
        flat_rows            with derived_statistics, in a program for a CPU
        explicit_sigmoid     in evaluation
        gain_inside_sum      always

    `hidden` and `channels` are the numbers of hidden and output channels of a branch, and `rows` is
    the product of the batch and spatial axes. `RULES` has the reasons.

    Args:
        shortcut: Name of the shortcut.
        implementation: The field of the module, "auto" or "plain".
        **arguments: Arguments of the rule of this shortcut, such as `train`; see `RULES`.

    Returns:
        True if the module takes the shortcut.

    Raises:
        ValueError: If `implementation` or `shortcut` is unknown.
    """
    if not look_up(IMPLEMENTATIONS, "implementation", implementation):
        return False
    return look_up(RULES, "shortcut", shortcut)(**arguments)


def derives_statistics(
    *,
    train: bool,
    dense: nn.Module,
    norm: Callable[..., Array],
    hidden_shape: tuple[int, ...],
    channels: int,
) -> bool:
    """Return whether a branch of attention derives its statistics from the hidden layer.

    Args:
        train: True in training.
        dense: Dense layer that computes the logits, bound to its variables.
        norm: Normalization of the logits, bound to its variables.
        hidden_shape: Shape of the hidden layer, `(batch, *spatial, hidden)`.
        channels: Number of channels of the logits.

    Returns:
        True if the rule of `derived_statistics` in `takes_shortcut` applies.
    """
    rows, hidden = math.prod(hidden_shape[:-1]), hidden_shape[-1]
    return (
        train
        # A subclass may normalize in another way.
        and type(norm) is BatchNorm
        # In `init` there are no variables yet. Where they are missing later, Flax reports it.
        and dense.has_variable("params", "kernel")
        and norm.has_variable("batch_stats", "mean")
        and channels >= 2 * hidden
        and hidden <= 64
        and rows >= 16 * hidden
    )


@contextlib.contextmanager
def target_platform(platform: str) -> Iterator[None]:
    """Trace programs for a platform other than the one that JAX uses by default.

    Results are the same on every platform. This is for a program that is compiled for devices that
    the process does not have.

    Args:
        platform: "cpu", "gpu" or "tpu".

    Yields:
        Nothing. In the context, the rule chooses as on that platform.
    """
    token = _TARGET.set(platform)
    try:
        yield
    finally:
        _TARGET.reset(token)


_TARGET: ContextVar[str | None] = ContextVar("target_platform", default=None)

IMPLEMENTATIONS = {"auto": True, "plain": False}
"""Values of the field `implementation`, and whether they allow shortcuts."""

RULES: dict[str, Callable[..., bool]] = {
    "derived_statistics": derives_statistics,
    "flat_rows": lambda: (_TARGET.get() or jax.default_backend()) == "cpu",
    "explicit_sigmoid": lambda *, train: not train,
    "gain_inside_sum": lambda: True,
}
"""For each shortcut, a function that returns whether a module takes it.

`derived_statistics` saves passes over memory and costs `hidden^2 * (rows + channels)` operations.
On two CPU cores (the machine of benchmarks/results/modules.md) it was faster with 16 and 64 hidden
channels and thousands of rows. It was slower with 512 hidden channels, and with hardly more rows
than hidden channels. It was not measured between these, and not on accelerators.

`flat_rows` flattens the batch and spatial axes. On a CPU, XLA transposes the operands of a product
that sums over several axes. On a TPU, it copies the array into another layout for one axis.

`explicit_sigmoid` was no faster in training.
"""
