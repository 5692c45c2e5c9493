"""A layer of a network in JAX that runs alone, with other fields or weights."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from aff_jax.parity.recording.inputs import with_evaluation_flags
from aff_jax.parity.recording.nnx_recording import copy_nnx, is_nnx
from aff_jax.parity.recording.recorder import Inputs, is_array, list_leaves

__all__ = ["NUMPY_MODES", "PaddingMode", "SingleLayer"]

NUMPY_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""Modes of `np.pad` by PyTorch's `padding_mode`."""


class PaddingMode(NamedTuple):
    """Padding of a convolution of PyTorch with values of its input.

    Attributes:
        mode: PyTorch's `padding_mode`: "reflect", "replicate" or "circular".
        sizes: Padding before and after each spatial axis.
    """

    mode: str
    sizes: tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class SingleLayer:
    """A layer with its variables.

    Attributes:
        module: Linen module without variables, or NNX module.
        variables: Variables by collection. Those of an NNX module are in the collection "nnx".
        padding_mode: Padding that is added to the inputs. None leaves padding to the module.
    """

    module: Any
    variables: Mapping[str, Any]
    padding_mode: PaddingMode | None = None

    def with_fields(self, fields: Mapping[str, Any]) -> "SingleLayer":
        """Return the layer with other fields.

        Args:
            fields: New values by name. "padding" may be a `PaddingMode`.

        Returns:
            A copy.
        """
        mode = fields.get("padding")
        if isinstance(mode, PaddingMode):
            fields = {**fields, "padding": "VALID"}
        else:
            mode = self.padding_mode
        if is_nnx(self.module):
            module = copy_nnx(self.module, self.variables)
            for name, value in fields.items():
                setattr(module, name, value)
        else:
            module = self.module.clone(**fields)
        layer = dataclasses.replace(self, module=module, padding_mode=mode)
        return layer._split_heads() if "num_heads" in fields else layer

    def _split_heads(self) -> "SingleLayer":
        """Split the channels of the weights of attention into its number of heads."""
        heads = self.module.num_heads
        params = {name: dict(leaves) for name, leaves in self.variables.get("params", {}).items()}
        for name, leaves in params.items():
            for leaf, array in leaves.items():
                # The axes of heads are the last two ones, and the first two ones of `out`.
                if name != "out" and array.size % heads == 0:
                    *before, a, b = array.shape
                    leaves[leaf] = np.reshape(array, (*before, heads, a * b // heads))
                elif leaf == "kernel":
                    a, b, features = array.shape
                    leaves[leaf] = np.reshape(array, (heads, a * b // heads, features))
        return dataclasses.replace(self, variables={**self.variables, "params": params})

    def with_weights(self, weights: Mapping[str, np.ndarray]) -> "SingleLayer":
        """Return the layer with other weights.

        Args:
            weights: New values by the names of the leaves.

        Returns:
            A copy.
        """
        variables = {
            collection: {leaf: weights.get(leaf, value) for leaf, value in leaves.items()}
            for collection, leaves in self.variables.items()
        }
        return dataclasses.replace(self, variables=variables)

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        """Run the layer in evaluation mode.

        Args:
            inputs: Its positional arguments.

        Returns:
            The arrays that it returns, or None if it raises an error: it may need other arguments,
            or refuse the value of a field.
        """
        if self.padding_mode is not None:
            mode, sizes = self.padding_mode
            widths = ((0, 0), *sizes, (0, 0))
            try:
                padded = np.pad(inputs[0], widths, NUMPY_MODES[mode])  # type: ignore[call-overload]
            except ValueError:
                return None
            inputs = [padded, *inputs[1:]]
        for flags in ({}, {"use_running_average": True}):
            try:
                with jax.default_matmul_precision("highest"):
                    result = self._call(inputs, flags)
            except Exception:  # the user's layer may raise anything
                continue
            return [np.asarray(leaf) for _, leaf in list_leaves(result) if is_array(leaf)]
        return None

    def _call(self, inputs: Sequence[np.ndarray], flags: Mapping[str, Any]) -> Any:
        """Call the module with its variables."""
        if is_nnx(self.module):
            return copy_nnx(self.module, self.variables)(*inputs, **flags)
        module: nn.Module = self.module
        call = with_evaluation_flags(module, Inputs(tuple(inputs), flags))
        return module.apply(self.variables, *call.args, **call.kwargs)
