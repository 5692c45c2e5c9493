"""Rows of a comparison, and the outputs that they compare."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aff_jax.parity.array_differences import largest_difference
from aff_jax.parity.recording.recorder import Call

__all__ = [
    "ONLY_JAX",
    "ONLY_TORCH",
    "Output",
    "Pair",
    "Row",
    "list_outputs",
]

ONLY_JAX = "called in JAX only"
"""Note of a row whose call only the JAX network made."""

ONLY_TORCH = "called in PyTorch only"
"""Note of a row whose call only the PyTorch network made."""


@dataclasses.dataclass(frozen=True)
class Row:
    """Comparison of one activation.

    Attributes:
        name: Name of the PyTorch module. Empty for the output of the whole network.
        path: Path of the JAX module. Empty for the output of the whole network. If a module
            returns several arrays, the position of this one follows, such as "[0]", or its key in a
            dict, such as "[logits]".
        call: Number of the call of this module, starting at 1.
        shape: Shape of the JAX activation.
        layout: Layout of the PyTorch activation, such as "channels first". ", by value" follows for
            outputs whose shape allows several layouts.
        max_abs: Largest absolute difference. None if the activations could not be compared.
        max_rel: `max_abs` divided by PyTorch's largest absolute value. None if `max_abs` is.
        allowed_rel: Largest `max_rel` that rounding explains.
        note: Reason why the activations could not be compared.
    """

    name: str
    path: str
    call: int
    shape: tuple[int, ...]
    layout: str = ""
    max_abs: float | None = None
    max_rel: float | None = None
    allowed_rel: float = 0.0
    note: str = ""

    @property
    def is_one_sided(self) -> bool:
        """Return whether only one of the networks made this call, or returned this array."""
        return self.note in (ONLY_JAX, ONLY_TORCH)

    @property
    def is_output(self) -> bool:
        """Return whether this is an output of the whole network."""
        return self.path.partition("[")[0] == ""

    @property
    def differs(self) -> bool:
        """Return whether the activations differ, are NaN, or could not be compared."""
        return self.note != "" or self.max_rel is None or not self.max_rel <= self.allowed_rel


class Output(NamedTuple):
    """One array that a call returned.

    Attributes:
        module: Path or name of the module. If it returns several arrays, the position or key of
            this one follows, such as "[1]" or "[logits]".
        number: Number of the call.
        array: The array.
        perturbed: The array of the run with numbers changed by one unit in the last place.
        key: Key of the array if the module returns a dict, such as "logits" or "parts.0".
    """

    module: str
    number: int
    array: np.ndarray
    perturbed: np.ndarray
    key: str = ""

    @property
    def noise(self) -> float:
        """Return how much the perturbed numbers changed the array."""
        if self.array.shape != self.perturbed.shape:
            return 0.0
        return largest_difference(self.array, self.perturbed)


class Pair(NamedTuple):
    """A row and the arrays that it compares.

    Attributes:
        row: The row.
        jax_array: Array of the JAX network. None if only PyTorch made the call.
        torch_array: Array of the PyTorch network. It has the layout of `jax_array` if there is one
            with its shape. None if only the JAX network made the call.
        torch_number: Number of PyTorch's call. It differs from the number of the row if two linen
            modules have the name of one PyTorch module. 0 if only the JAX network made the call.
    """

    row: Row
    jax_array: np.ndarray | None
    torch_array: np.ndarray | None
    torch_number: int = 0


def list_outputs(calls: Sequence[Call], perturbed: Sequence[Call]) -> list[Output]:
    """List the arrays that calls returned, one by one.

    Args:
        calls: Calls of a network.
        perturbed: Calls of the same network with perturbed numbers.

    Returns:
        The arrays in the order of the calls.
    """
    outputs = []
    for call, again in itertools.zip_longest(calls, perturbed):
        if call is None:
            break
        is_same = again is not None and (again.module, again.number) == (call.module, call.number)
        for index, array in enumerate(call.outputs):
            key = call.keys[index] if call.keys else ""
            name = f"{call.module}[{index}]" if len(call.outputs) > 1 else call.module
            other_array = again.outputs[index] if is_same else array
            outputs.append(Output(name, call.number, array, other_array, key))
    return outputs
