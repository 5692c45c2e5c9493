"""Suggest how the layers of two networks with different names correspond."""

import difflib
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from aff_jax.convert.rules import PYTORCH
from aff_jax.inspection import Structure
from aff_jax.parity.torch_network import TorchNetwork

__all__ = ["explain_names", "suggest_rename"]


def suggest_rename(torch_network: TorchNetwork, structure: Structure) -> str:
    """Suggest the argument `rename` for networks with the same layers under other names.

    Layers correspond if they come in the same order and have weights of the same sizes.

    Args:
        torch_network: The PyTorch network.
        structure: Structure of the linen network.

    Returns:
        A sentence with the argument, or an empty string if the layers do not correspond.
    """
    theirs = {
        name: sorted(p.numel() for p in part.parameters(recurse=False))
        for name, part in torch_network.module.named_modules()
    }
    theirs = {name: sizes for name, sizes in theirs.items() if sizes}
    ours: dict[str, list[int]] = {}
    for path in structure.layers:
        own = [leaf for at, leaf in structure.leaves("params") if at[:-1] == path]
        if own:
            ours[PYTORCH.name_of(path, structure)] = sorted(int(np.prod(x.shape)) for x in own)
    if not ours or list(ours.values()) != list(theirs.values()):
        return ""
    rename = {old: new for old, new in zip(theirs, ours, strict=True) if old != new}
    return (
        f"The layers of both networks have the same sizes in the same order, so probably you want "
        f"rename={_shorten(rename)}."
    )


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


def explain_names(
    torch_network: TorchNetwork, structure: Structure, expected: Collection[str]
) -> str:
    """Explain that two networks have no layer of the same name.

    Args:
        torch_network: The PyTorch network.
        structure: Structure of the linen network.
        expected: Names that the linen modules have in PyTorch.

    Returns:
        Sentences with the first names, similar ones, and what to do.
    """
    names = sorted(name for name in torch_network.names.values() if name)
    near = [
        f"{name!r} and {matches[0]!r}"
        for name in sorted(expected)
        if (matches := difflib.get_close_matches(name, names, n=1))
    ]
    return (
        f"the networks have no layer in common. PyTorch's modules are {_first(names)}; the names "
        f"of the linen module are {_first(sorted(expected))}. "
        + (f"Similar are {_first(near)}. " if near else "")
        + (
            suggest_rename(torch_network, structure)
            or "Probably the names have another prefix: pass `rename`."
        )
    )


def _first(texts: Sequence[str]) -> str:
    return ", ".join(text or "(whole)" for text in texts[:8]) + (" ..." if len(texts) > 8 else "")
