"""Record of one training step, with the names and layouts of PyTorch."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["BatchMoments", "NamedArrays", "TrainingStep"]

NamedArrays = dict[str, np.ndarray]
"""Arrays by PyTorch's name, in PyTorch's layouts."""


class BatchMoments(NamedTuple):
    """Moments of one input of a batch norm.

    Attributes:
        mean: Mean of each channel.
        var: Biased variance of each channel.
        size: Number of values per channel.
    """

    mean: np.ndarray
    var: np.ndarray
    size: int


@dataclasses.dataclass(frozen=True)
class TrainingStep:
    """Values of one training step. The state before the first step has only the last two fields.

    Attributes:
        loss: Loss before the update.
        outputs: Outputs of the network before the update, in the layout of the framework.
        gradients: Gradients by the name of the weight. None if there is no gradient.
        optimizer_state: State of the optimizer after the step, by the name of the weight and of the
            state, such as "conv1.weight.exp_avg".
        batch_moments: Moments of the inputs of each batch norm, by the name of the norm. Only
            PyTorch's side has them.
        weights: Weights after the step.
        statistics: Running statistics after the step.
    """

    loss: float = float("nan")
    outputs: Sequence[np.ndarray] = ()
    gradients: Mapping[str, np.ndarray | None] = dataclasses.field(default_factory=dict)
    optimizer_state: NamedArrays = dataclasses.field(default_factory=dict)
    batch_moments: Mapping[str, Sequence[BatchMoments]] = dataclasses.field(default_factory=dict)
    weights: NamedArrays = dataclasses.field(default_factory=dict)
    statistics: NamedArrays = dataclasses.field(default_factory=dict)
