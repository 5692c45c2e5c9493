"""Suggest how the layers of two networks with different names correspond."""

import difflib
from collections.abc import Mapping, Sequence

import numpy as np

from aff_jax.convert.rules import PYTORCH
from aff_jax.inspection import ModulePath, Structure
from aff_jax.parity.recording.torch_network import TorchNetwork
from aff_jax.parity.rows import Row

__all__ = ["check_common_layers", "suggest_rename"]

_MAX_NAMES = 8
"""Number of names that an error lists."""


def suggest_rename(torch_network: TorchNetwork, structure: Structure) -> str:
    """Suggest the argument `rename` for networks with the same layers under other names.

    Layers correspond if they come in the same order and have weights of the same sizes.

    Args:
        torch_network: The PyTorch network.
        structure: Structure of the JAX network.

    Returns:
        A sentence with the argument, or an empty string if the layers do not correspond.
    """
    torch_sizes = {
        name: sorted(p.numel() for p in part.parameters(recurse=False))
        for name, part in torch_network.module.named_modules()
    }
    torch_sizes = {name: sizes for name, sizes in torch_sizes.items() if sizes}
    sizes_of: dict[ModulePath, list[int]] = {}
    for path, leaf in structure.leaves("params"):
        sizes_of.setdefault(path[:-1], []).append(int(np.prod(leaf.shape)))
    jax_sizes = {
        PYTORCH.name_of(path, structure): sorted(sizes_of[path])
        for path in structure.layers
        if path in sizes_of
    }
    if not jax_sizes or list(jax_sizes.values()) != list(torch_sizes.values()):
        return ""
    rename = {old: new for old, new in zip(torch_sizes, jax_sizes, strict=True) if old != new}
    if not rename:
        return ""
    return (
        f"The layers of both networks have the same sizes in the same order, so probably you want "
        f"{_name_argument(_shorten(rename))}."
    )


def _name_argument(rename: Mapping[str, str]) -> str:
    """Return the argument `rename` in Python, and the first flag of the command line."""
    old, new = next(iter(rename.items()))
    more = " and so on" if len(rename) > 1 else ""
    return f"rename={dict(rename)}; on the command line, --rename={old}={new}{more}"


def _shorten(rename: Mapping[str, str]) -> dict[str, str]:
    """Merge entries that one prefix explains, as `{"a.b": "c.b", "a.d": "c.d"}` by `a`."""
    result = dict(rename)
    changed = True
    while changed:
        changed = False
        groups: dict[tuple[str, str], list[str]] = {}
        for old, new in result.items():
            (prefix, _, leaf), (new_prefix, _, new_leaf) = old.rpartition("."), new.rpartition(".")
            if leaf == new_leaf and prefix and new_prefix:
                groups.setdefault((prefix, new_prefix), []).append(old)
        for (prefix, new_prefix), members in groups.items():
            inside = [old for old in result if old.startswith(f"{prefix}.")]
            if sorted(inside) == sorted(members) and prefix not in result:
                result = {old: new for old, new in result.items() if old not in members}
                result[prefix] = new_prefix
                changed = True
    return result


def check_common_layers(
    rows: Sequence[Row], torch_network: TorchNetwork, structure: Structure
) -> None:
    """Check that a layer was compared, if both networks have layers with weights.

    Args:
        rows: Rows of the comparison.
        torch_network: The PyTorch network.
        structure: Structure of the network in JAX.

    Raises:
        ValueError: If the networks have no layer of the same name. The message has the nearest
            names.
    """
    names = [name for name, has in torch_network.has_weights.items() if name and has]
    layers = sorted({path[:-1] for path, _ in structure.leaves("params")})
    expected = [name for path in layers if (name := PYTORCH.name_of(path, structure))]
    if not (names and expected) or any(row.name and not row.is_one_sided for row in rows):
        return
    lines = []
    for name in expected[:_MAX_NAMES]:
        near = difflib.get_close_matches(name, names, 1)
        lines.append(f"  {name}" + (f"   (nearest in PyTorch: {near[0]})" if near else ""))
    example = f"such as {_name_argument({names[0]: expected[0]})}"
    raise ValueError(
        f"expected layers of the same names in both networks, got none. The names of the "
        f"{len(expected)} layers of the JAX network in PyTorch are\n"
        + "\n".join(lines)
        + f"\nand PyTorch has {len(names)} others: {', '.join(names[:_MAX_NAMES])}. "
        + (suggest_rename(torch_network, structure) or f"Pass `rename` with new names, {example}.")
    )
