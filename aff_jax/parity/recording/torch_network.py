"""A PyTorch module as one side of a comparison."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from aff_jax.convert.mapping import list_entries
from aff_jax.convert.prefixes import Rename, rename_arrays
from aff_jax.convert.pytorch import from_torch
from aff_jax.convert.rules import PYTORCH
from aff_jax.inspection import Structure
from aff_jax.parity.recording.recorder import Call, Inputs
from aff_jax.parity.recording.torch_recording import copy_torch, record_torch
from aff_jax.parity.rows import Output, list_outputs

__all__ = ["TorchNetwork", "list_surplus"]

_WHOLE = "(whole)"
"""Name of the whole PyTorch module where `rename` maps a submodule to the empty name."""


def list_surplus(
    state: Mapping[str, Any], new_names: Mapping[str, str], expected: Collection[str]
) -> list[str]:
    """List the names of tied weights that are expected under another name.

    Args:
        state: Tensors by name.
        new_names: Names in `state` by their new names.
        expected: New names of the weights that the linen module has.

    Returns:
        Names in `state`.
    """
    tied: dict[int, list[str]] = {}
    for new, old in new_names.items():
        if state[old].numel():
            tied.setdefault(state[old].data_ptr(), []).append(new)
    return [
        new_names[name]
        for names in tied.values()
        for name in names
        if name not in expected and set(expected) & set(names)
    ]


class TorchNetwork:
    """A copy of a PyTorch module whose submodules have the names of the linen module.

    Args:
        module: The module. It is copied and not changed.
        dtype: Dtype of the copy, "float32" or "float64".
        rename: New names of the submodules, as in `from_torch`.
        ignore: Names of weights and buffers without a counterpart, as in `from_torch`.
        folds: Replace weights under `weight_norm` and the like by plain weights, see `copy_torch`.
    """

    def __init__(
        self,
        module: Any,
        dtype: str,
        rename: Rename | None,
        ignore: Sequence[str] = (),
        folds: bool = False,
    ) -> None:
        self.module = copy_torch(module, dtype, folds)
        self.dtype = dtype
        self.rename = rename
        self.ignore = ignore
        everything = dict(self.module.named_modules(remove_duplicate=False))
        renamed = rename_arrays({n: n for n in everything if n}, rename, strict=False)
        self.names = {old: new for new, old in renamed.items()}
        # The JAX network is compared with the whole module, unless `rename` maps a submodule to
        # the empty name.
        self.names[""] = _WHOLE if "" in renamed else ""
        first = {id(part): self.names[name] for name, part in self.module.named_modules()}
        self._first_names = {self.names[name]: first[id(part)] for name, part in everything.items()}

    def first_name(self, name: str) -> str:
        """Return the name under which the calls of a submodule are recorded.

        Args:
            name: Name of the submodule, or any other name.

        Returns:
            The first name of a submodule that has several, and otherwise `name`.
        """
        return self._first_names.get(name, name)

    def old_name(self, name: str) -> str:
        """Return the name of a submodule in PyTorch.

        Args:
            name: Its name after `rename`.

        Returns:
            Its name before.
        """
        return next(old for old, new in self.names.items() if new == name)

    @property
    def has_weights(self) -> dict[str, bool]:
        """Return for each name whether the submodule itself has weights."""
        parts = self.module.named_modules()
        return {self.names[name]: bool(part._parameters) for name, part in parts}

    @property
    def has_sequences(self) -> bool:
        """Return whether the network has layers for sequences with channels first."""
        return any(type(part).__name__.endswith("1d") for part in self.module.modules())

    def record(
        self, inputs: Inputs, inputs_of: Collection[str] = (), perturb: bool = False
    ) -> list[Call]:
        """Run the module and record the outputs of all submodules.

        Args:
            inputs: Its inputs, in PyTorch's layout.
            inputs_of: Names of the submodules whose inputs are recorded too.
            perturb: Change the inputs of every submodule by one unit in the last place.

        Returns:
            The calls, by the new names of the submodules.
        """
        old_names = [self.old_name(name) for name in inputs_of]
        calls = record_torch(self.module, inputs, old_names, perturb)
        return [call._replace(module=self.names[call.module]) for call in calls]

    def record_twice(self, inputs: Inputs) -> list[Output]:
        """Run the module, and again with its inputs perturbed.

        Args:
            inputs: Its inputs, in PyTorch's layout.

        Returns:
            The outputs of all submodules in order. In the second run, the inputs of every submodule
            change by one unit in the last place.
        """
        return list_outputs(self.record(inputs), self.record(inputs, perturb=True))

    def convert(self, module: nn.Module, inputs: Inputs, structure: Structure) -> dict[str, Any]:
        """Convert the weights to the variables of a linen module.

        A weight that PyTorch has under several names is converted under those that the linen module
        has.

        Args:
            module: The linen module.
            inputs: Its inputs.
            structure: Its structure.

        Returns:
            The variables.

        Raises:
            ValueError: If the weights do not match the module.
        """
        state = self.module.state_dict()
        expected = {entry.name for entry in list_entries(structure, PYTORCH)}
        if not state and not expected:
            return {}
        if not state:
            raise ValueError(
                f"expected a PyTorch module with weights for the {len(expected)} variables of the "
                f"linen module, got one without any. Probably its layers are in a plain list: use "
                f"torch.nn.ModuleList. Or pass `variables`."
            )
        new_names = rename_arrays({name: name for name in state}, self.rename)
        surplus = list_surplus(state, new_names, expected)
        # Float64 weights would lose precision in float32 parameters.
        is_wide = self.dtype == "float64" and hasattr(module, "param_dtype")
        target = module.clone(param_dtype=jnp.float64) if is_wide else module
        kept = {name: value for name, value in state.items() if name not in surplus}
        return from_torch(
            kept,
            target,
            *inputs.args,
            kwargs=inputs.kwargs,
            rename=self.rename,
            ignore=self.ignore,
        )
