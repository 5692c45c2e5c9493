"""Samples of the arrays of all training steps, from which causes are inferred.

Whole arrays of all steps would not fit into memory for large networks.
"""

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from aff_jax.parity.training.record import BatchMoments, TrainingStep
from aff_jax.parity.training.step_parity import StepRow

__all__ = ["SAMPLE_SIZE", "Samples", "Side"]

SAMPLE_SIZE = 128
"""Number of values kept of each array, so that a network of any size fits in memory."""

_NOTE = "gradient is a rounding error"


@dataclasses.dataclass
class Side:
    """Samples of one side.

    Attributes:
        losses: Loss of each step.
        outputs: Outputs of the first step.
        gradients: For each weight, samples `(steps, size)`, or None without a gradient.
        weights: For each weight, samples `(steps + 1, size)`, with the initial weights.
        statistics: For each running statistic, all values `(steps + 1, channels)`.
        norms: Norm of all gradients of each step.
    """

    losses: list[float] = dataclasses.field(default_factory=list)
    outputs: list[np.ndarray] = dataclasses.field(default_factory=list)
    gradients: dict[str, list[np.ndarray | None]] = dataclasses.field(default_factory=dict)
    weights: dict[str, list[np.ndarray]] = dataclasses.field(default_factory=dict)
    statistics: dict[str, list[np.ndarray]] = dataclasses.field(default_factory=dict)
    norms: list[float] = dataclasses.field(default_factory=list)

    def add(self, step: TrainingStep) -> None:
        """Add samples of the next step.

        Args:
            step: The step. The first one is the state before the first step.
        """
        for name, array in step.weights.items():
            self.weights.setdefault(name, []).append(_sample(name, array))
        for name, array in step.statistics.items():
            self.statistics.setdefault(name, []).append(np.array(array, np.float64))
        if not step.gradients:
            return
        self.losses.append(step.loss)
        self.outputs = self.outputs or list(step.outputs)
        squares = 0.0
        for name, gradient in step.gradients.items():
            drawn = None if gradient is None else _sample(name, gradient)
            self.gradients.setdefault(name, []).append(drawn)
            if gradient is not None:
                squares += float(np.sum(np.square(gradient, dtype=np.float64)))
        self.norms.append(squares**0.5)


@dataclasses.dataclass
class Samples:
    """Samples of both sides.

    Attributes:
        torch: Samples of the PyTorch side.
        jax: Samples of the JAX side.
        batch_moments: Moments of the inputs of PyTorch's batch norms by name, for each step.
        settings: Settings of PyTorch's optimizer for each weight.
        optimizer_name: Class of PyTorch's optimizer.
        norm_momenta: Momentum of each batch norm of PyTorch.
        rounding_only: Weights whose gradients are nothing but rounding errors.
        tied: Groups of names of one weight of PyTorch, all of which JAX has.
        padding: Row of each embedding of PyTorch that gets no gradient.
        summed: Biases of PyTorch that belong to one bias of JAX.
        unmatched_states: Names of states of the optimizer that one side lacks.
    """

    torch: Side = dataclasses.field(default_factory=Side)
    jax: Side = dataclasses.field(default_factory=Side)
    batch_moments: list[Mapping[str, Any]] = dataclasses.field(default_factory=list)
    settings: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    optimizer_name: str = ""
    norm_momenta: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    rounding_only: set[str] = dataclasses.field(default_factory=set)
    tied: list[list[str]] = dataclasses.field(default_factory=list)
    padding: Mapping[str, int] = dataclasses.field(default_factory=dict)
    summed: set[str] = dataclasses.field(default_factory=set)
    unmatched_states: set[str] = dataclasses.field(default_factory=set)

    def add(self, torch_step: TrainingStep, jax_step: TrainingStep) -> None:
        """Add samples of the next step of both sides.

        Args:
            torch_step: PyTorch's.
            jax_step: JAX's.
        """
        self.torch.add(torch_step)
        self.jax.add(jax_step)
        if jax_step.gradients:
            self.batch_moments.append(
                {n: _copy(calls) for n, calls in torch_step.batch_moments.items()}
            )
            for one, other in (
                (torch_step.optimizer_state, jax_step.optimizer_state),
                (jax_step.optimizer_state, torch_step.optimizer_state),
            ):
                keys = {name.rpartition(".")[2] for name in other}
                self.unmatched_states |= {
                    key for key in (name.rpartition(".")[2] for name in one) if key not in keys
                }
            # JAX's field `nu` has two names in PyTorch, one of which is never there.
            self.unmatched_states -= {"square_avg", "exp_avg_sq"}

    def is_updated(self, name: str) -> bool:
        """Return whether the last step that was added changed a weight of JAX.

        Args:
            name: Name of the weight.

        Returns:
            True if it changed.
        """
        before, after = self.jax.weights[name][-2:]
        return not np.array_equal(before, after)

    def excuse_rounding(self, row: StepRow, share: float) -> StepRow:
        """Allow a weight to differ by a share of its updates.

        optax computes 1 - beta^t in the dtype of the weights, which loses three digits. Weights in
        `rounding_only` may differ by all of their updates: Adam divides a gradient by its size, so
        a gradient that is a rounding error changes the weight as much as any other.

        Args:
            row: Row of a weight, moment or statistic.
            share: The share.

        Returns:
            The row, with a larger `allowed_abs` and a note if it belongs to such a weight.
        """
        if row.kind == "moment" and row.name.rpartition(".")[0] in self.rounding_only:
            return row if row.differs else dataclasses.replace(row, note=_NOTE)
        if row.kind != "weight" or not row.step:
            return row
        travel = sum(
            float(
                np.sum(np.max(np.abs(np.diff(side.weights[row.name], axis=0)), axis=1, initial=0))
            )
            for side in (self.torch, self.jax)
        )
        is_rounding = row.name in self.rounding_only
        allowed = max(row.allowed_abs, (2.0 if is_rounding else share) * travel)
        return dataclasses.replace(
            row, allowed_abs=allowed, note=_NOTE if is_rounding else row.note
        )


def _copy(calls: Any) -> list[BatchMoments]:
    """Copy the moments, whose arrays change in the next step."""
    return [BatchMoments(np.array(c.mean, float), np.array(c.var, float), c.size) for c in calls]


def _sample(name: str, array: np.ndarray) -> np.ndarray:
    """Return at most `SAMPLE_SIZE` values, from places that depend only on the name."""
    flat = np.reshape(array, -1)
    if flat.size > SAMPLE_SIZE:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        flat = flat[rng.choice(flat.size, SAMPLE_SIZE, replace=False)]
    return np.array(flat, np.float64)
