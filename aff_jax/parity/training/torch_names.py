"""Match the names of arrays of a PyTorch module with the names in a linen module."""

from collections.abc import Mapping, Sequence
from typing import Any

from aff_jax.convert.prefixes import Rename, rename_arrays
from aff_jax.lookup import unknown_name
from aff_jax.parity.recording.torch_network import list_surplus

__all__ = ["list_names", "list_tied", "match_names"]


def list_names(torch_module: Any, rename: Rename | None) -> dict[str, str]:
    """Return the names of parameters and buffers of a PyTorch module by their new names.

    Args:
        torch_module: The module.
        rename: New names; see `Rename`.

    Returns:
        Names in `torch_module`.
    """
    arrays = [n for n, _ in torch_module.named_parameters(remove_duplicate=False)]
    arrays += [name for name, _ in torch_module.named_buffers()]
    return rename_arrays({name: name for name in arrays}, rename, strict=False)


def list_tied(
    state: Mapping[str, Any], renamed: Mapping[str, str], read: Sequence[str]
) -> list[str]:
    """List the tied weights that the linen module has under another name.

    Args:
        state: Tensors of the PyTorch module by name.
        renamed: Names in the PyTorch module by their new names.
        read: New names of the arrays of the linen module.

    Returns:
        Names in the PyTorch module.
    """
    known = {new: old for new, old in renamed.items() if old in state}
    return list_surplus(state, known, read)


def match_names(expected: Sequence[str], renamed: Mapping[str, str]) -> dict[str, str]:
    """Return the names in the PyTorch module of the arrays of JAX.

    Args:
        expected: Names of the arrays of JAX.
        renamed: Names in the PyTorch module by their new names.

    Returns:
        Names in the PyTorch module by the common names.

    Raises:
        ValueError: If there is no common name.
    """
    names = {name: renamed[name] for name in expected if name in renamed}
    if not names:
        first = expected[0] if expected else "a weight"
        raise ValueError(
            f"the networks share no name: {unknown_name('name', first, renamed)} Pass `rename`, "
            f"as in aff_jax.convert.from_torch."
        )
    return names
