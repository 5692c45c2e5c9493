"""The rule that decides when a module takes a shortcut."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn

from aff_jax.lookup import look_up
from aff_jax.nn.batch_norm import BatchNorm

__all__ = ["IMPLEMENTATIONS", "RULES", "derives_statistics", "takes_shortcut"]


def takes_shortcut(shortcut: str, implementation: str, **arguments: Any) -> bool:
    """Return whether a module takes a shortcut instead of computing its formula as written.

    With `implementation="plain"` it takes none. With `"auto"` it takes these::

        derived_statistics   in training, for a branch of attention whose norm is `BatchNorm`, if
                             the output has at least twice as many channels as the hidden layer,
                             the hidden layer has at most 64, and there are at least 16 rows for
                             each of them
        explicit_sigmoid     in evaluation
        gain_inside_sum      always

    `derived_statistics` saves passes over memory and costs n^2 * (rows + channels) operations for n
    hidden channels. On a CPU it was measured as a gain for 16 and 64 hidden channels with thousands
    of rows, and as a loss for 512 and where there are hardly more rows than hidden channels. It was
    not measured between these, and not on accelerators. `explicit_sigmoid` was measured to be no
    faster in training.

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
    norm: nn.Module,
    hidden_shape: tuple[int, ...],
    features: int,
) -> bool:
    """Return whether a branch of attention derives its statistics from the hidden layer.

    Args:
        train: True in training.
        dense: Dense layer that computes the logits, bound to its variables.
        norm: Normalization of the logits, bound to its variables.
        hidden_shape: Shape of the hidden layer, `(batch, *spatial, hidden)`.
        features: Number of channels of the logits.

    Returns:
        True if the rule of `derived_statistics` in `takes_shortcut` applies.
    """
    rows, hidden = math.prod(hidden_shape[:-1]), hidden_shape[-1]
    return (
        train
        # In `init` there are no variables yet. Where they are missing later, Flax reports it.
        and dense.has_variable("params", "kernel")
        and norm.has_variable("batch_stats", "mean")
        # A subclass may normalize in another way.
        and type(norm) is BatchNorm
        and features >= 2 * hidden
        and hidden <= 64
        and rows >= 16 * hidden
    )


IMPLEMENTATIONS = {"auto": True, "plain": False}
"""Values of the field `implementation`, and whether they allow shortcuts."""

RULES: dict[str, Callable[..., bool]] = {
    "derived_statistics": derives_statistics,
    "explicit_sigmoid": lambda *, train: not train,
    "gain_inside_sum": lambda: True,
}
"""For each shortcut, a function that returns whether it is faster."""
