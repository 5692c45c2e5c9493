"""Arrays of JAX in the packed form of PyTorch's attention and recurrent layers."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from aff_jax.convert.packed_forms import Form
from aff_jax.parity.training.record import NamedArrays

__all__ = ["Packing"]


class Packing:
    """Forms in which PyTorch stores the arrays of some layers.

    PyTorch's recurrent layers have two biases that they add, and cells of Flax have one. Both
    biases have the gradient of their sum, so the sum changes twice as fast when both are trained.

    Args:
        forms: One form for each layer.
    """

    def __init__(self, forms: Sequence[Form]) -> None:
        self.parts = {name: parts for form in forms for name, parts in form.parts.items()}
        self.uses = Counter(part for parts in self.parts.values() for part in parts)

    @property
    def summed(self) -> set[str]:
        """Return the names of arrays that PyTorch adds to others, in whole or in part."""
        return {n for n, parts in self.parts.items() if any(self.uses[p] > 1 for p in parts)}

    def to_torch_names(self, names: Sequence[str]) -> list[str]:
        """Return the names that arrays have after `to_torch_arrays`.

        Args:
            names: Names of arrays, one for each variable.

        Returns:
            Names of PyTorch.
        """
        packed = [n for n, parts in self.parts.items() if all(part in names for part in parts)]
        gone = {part for name in packed for part in self.parts[name]}
        return [name for name in names if name not in gone] + packed

    def to_torch_arrays(self, arrays: Mapping[str, np.ndarray], sums: bool) -> NamedArrays:
        """Return the arrays of PyTorch that correspond to arrays of JAX.

        Args:
            arrays: Arrays by name, one for each variable.
            sums: True for weights: a bias that PyTorch has twice is stored as the sum in the first
                array and zeros in the second. False for gradients, which are the same in both.

        Returns:
            Arrays under the names of PyTorch.
        """
        packed: NamedArrays = {}
        written: set[str] = set()
        for name in self.to_torch_names(list(arrays)):
            parts = self.parts.get(name, (name,))
            chunks = [
                np.zeros_like(arrays[part]) if sums and part in written else arrays[part]
                for part in parts
            ]
            written.update(parts)
            packed[name] = np.concatenate(chunks) if name in self.parts else arrays[name]
        return packed

    def add_biases(self, arrays: Mapping[str, np.ndarray]) -> NamedArrays:
        """Add the biases of PyTorch that belong to one bias of JAX.

        Args:
            arrays: PyTorch's weights under the names of the forms.

        Returns:
            The weights, with sums as `to_torch_arrays` has them.
        """
        result = dict(arrays)
        first: dict[str, tuple[str, int]] = {}
        for name in [name for name in self.parts if name in self.summed and name in arrays]:
            parts = self.parts[name]
            chunks = np.split(np.array(arrays[name]), len(parts))
            for place, part in enumerate(parts):
                if part in first:
                    other, at = first[part]
                    size = len(chunks[place])
                    result[other][at * size : (at + 1) * size] += chunks[place]
                    chunks[place] = np.zeros_like(chunks[place])
                else:
                    first[part] = (name, place)
            result[name] = np.concatenate(chunks)
        return result
