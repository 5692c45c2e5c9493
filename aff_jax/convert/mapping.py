"""Map the arrays of a checkpoint to the variables of a linen module, and back."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from aff_jax.attention.ms_cam import Branch, branch_names
from aff_jax.convert.causes import guess_cause
from aff_jax.convert.entries import LAYOUTS, UNREAD, Entry
from aff_jax.convert.rules import Framework
from aff_jax.differences import count_differences, list_differences
from aff_jax.fusion.iaff import IAFF
from aff_jax.inspection import ModulePath, Structure

__all__ = [
    "Variables",
    "arrays_to_variables",
    "list_entries",
    "variables_to_arrays",
]

Variables = dict[str, Any]
"""Collections by name: "params", "batch_stats", and `UNREAD` if the checkpoint has such arrays."""


def list_entries(structure: Structure, framework: Framework) -> list[Entry]:
    """List every array of the reference's checkpoint, including the `UNREAD` ones.

    Args:
        structure: Structure of the linen module, from `inspect_module`.
        framework: Names in the framework of the checkpoint.

    Returns:
        One entry per array, unread ones last.

    Raises:
        ValueError: If a kernel belongs to a layer other than `Dense`, `Conv` and `ConvTranspose`.
    """
    read = list(_list_read_entries(structure, framework))
    return [*read, *_list_unread_branches(read, structure, framework)]


def _list_read_entries(structure: Structure, framework: Framework) -> Iterator[Entry]:
    for collection in ("params", "batch_stats"):
        for path, leaf in structure.leaves(collection):
            is_norm = path[:-1] in structure.norms
            names = framework.norm if is_norm else framework.other
            name = framework.name_of(path[:-1], structure)
            leaf_name = names.get(path[-1], path[-1])
            shape, layout = tuple(leaf.shape), "same"
            if path[-1] == "kernel":
                layout = _layout_of_kernel(path, len(shape), structure, framework)
                shape = LAYOUTS[layout].reference_shape(shape)
                if layout == "dense":
                    shape += (1,) * _spatial_axes_of_branch(path, structure)
            full_name = f"{name}.{leaf_name}" if name else leaf_name
            yield Entry(full_name, shape, collection, path, leaf.dtype, tuple(leaf.shape), layout)


def _list_unread_branches(
    read: Sequence[Entry], structure: Structure, framework: Framework
) -> Iterator[Entry]:
    """List the second global branch of every `IAFF` that shares the global branch.

    PyTorch's iAFF has it as `global_att2`, and its second pass reads `global_att` instead.
    """
    for at, layer in structure.layers.items():
        if not (isinstance(layer.module, IAFF) and layer.module.share_global):
            continue
        scales = layer.module.scales
        for number in range(2, layer.module.iterations + 1):
            pairs = zip(scales, branch_names(scales), branch_names(scales, number), strict=True)
            for scale, first, later in pairs:
                first_at, later_at = (*at, first), (*at, later)
                for entry in read if scale == "global" else ():
                    if entry.path[: len(first_at)] == first_at:
                        path = later_at + entry.path[len(first_at) :]
                        leaf = entry.name.rpartition(".")[2]
                        name = f"{framework.name_of(path[:-1], structure)}.{leaf}"
                        yield dataclasses.replace(
                            entry, name=name, collection=UNREAD, path=(name,), fallback=entry.name
                        )


def arrays_to_variables(
    entries: Sequence[Entry], arrays: Mapping[str, np.ndarray], source: str
) -> Variables:
    """Convert the arrays of a checkpoint to variables.

    Args:
        entries: Entries of the module, from `list_entries`.
        arrays: Arrays by their names in the checkpoint.
        source: Name of the checkpoint in error messages.

    Returns:
        The variables, JAX arrays in the dtypes of the entries.

    Raises:
        ValueError: If arrays are missing, unexpected, misshapen or not floating point. The message
            lists all of them.
    """
    known = {entry.name: entry for entry in entries}
    if lines := _list_wrong_arrays(known, arrays):
        raise ValueError(
            f"{source} does not match this module of {len(_list_expected(known, arrays))} arrays: "
            f"{count_differences(lines)}.\n" + "\n".join(lines) + f"\n{guess_cause(known, arrays)}"
        )
    flat: dict[ModulePath, Any] = {}
    for name, array in arrays.items():
        entry = known[name]
        # Unread arrays keep the checkpoint's layout and stay in NumPy: no module uses them.
        is_unread = entry.collection == UNREAD
        leaf = array.astype(entry.dtype) if is_unread else jnp.asarray(entry.to_leaf(array))
        flat[(entry.collection, *entry.path)] = leaf
    return traverse_util.unflatten_dict(flat)


def variables_to_arrays(entries: Sequence[Entry], variables: Variables) -> dict[str, np.ndarray]:
    """Convert variables to the arrays of a checkpoint.

    Unread arrays are written as they were read. If the variables have none, a copy of the array
    that is read instead is written.

    Args:
        entries: Entries of the module, from `list_entries`.
        variables: Variables of the module.

    Returns:
        Arrays by name, in the order of the entries and in the dtypes of the variables.

    Raises:
        ValueError: If variables are missing, unexpected or misshapen. The message lists all of
            them.
    """
    read = [entry for entry in entries if entry.collection != UNREAD]
    unread = [entry for entry in entries if entry.collection == UNREAD]
    stored = variables.get(UNREAD, {})
    leaves = {
        "/".join((collection, *path)): leaf
        for collection in ("params", "batch_stats")
        for path, leaf in traverse_util.flatten_dict(dict(variables.get(collection, {}))).items()
    }
    expected = {"/".join((e.collection, *e.path)): e.leaf_shape for e in read}
    found = {name: np.shape(leaf) for name, leaf in leaves.items()}
    # Unread arrays are optional: compare only those that the variables have.
    expected |= {f"{UNREAD}/{e.name}": e.shape for e in unread if e.name in stored}
    found |= {f"{UNREAD}/{name}": np.shape(array) for name, array in stored.items()}
    if lines := list_differences(expected, found):
        raise ValueError(
            f"the variables do not match this module: {count_differences(lines)}.\n"
            + "\n".join(lines)
            + "\nPass the module that the variables were created with, and inputs of the shapes "
            "that it was created for."
        )
    written: dict[str, np.ndarray] = {}
    for entry in entries:
        if entry.collection == UNREAD:
            written[entry.name] = np.array(stored.get(entry.name, written[entry.fallback]))
        else:
            leaf = leaves["/".join((entry.collection, *entry.path))]
            written[entry.name] = entry.to_array(leaf)
    return written


def _list_wrong_arrays(known: Mapping[str, Entry], arrays: Mapping[str, np.ndarray]) -> list[str]:
    """List the arrays that are missing, unexpected, misshapen or not floating point."""
    expected = _list_expected(known, arrays)
    accepted = {name for name in known if name in arrays and known[name].accepts(arrays[name])}
    found = {
        name: expected[name] if name in accepted else array.shape for name, array in arrays.items()
    }
    return list_differences(expected, found) + [
        f"  wrong dtype {name}: {array.dtype}, expected floating point"
        for name, array in arrays.items()
        if name in accepted and not jnp.issubdtype(array.dtype, jnp.floating)
    ]


def _list_expected(
    known: Mapping[str, Entry], arrays: Mapping[str, np.ndarray]
) -> dict[str, tuple[int, ...]]:
    """Return the shapes that the checkpoint must have, by name."""
    # A checkpoint may lack all of the unread arrays. If it has only some, it is damaged.
    has_unread = any(e.name in arrays for e in known.values() if e.collection == UNREAD)
    return {
        name: entry.shape
        for name, entry in known.items()
        if has_unread or entry.collection != UNREAD
    }


def _layout_of_kernel(
    path: ModulePath, axes: int, structure: Structure, framework: Framework
) -> str:
    """Return the key of `LAYOUTS` for the kernel at `path`.

    Raises:
        ValueError: If the layer is not a dense layer or a convolution.
    """
    layer = structure.layers.get(path[:-1])
    module = layer.module if layer else None
    if isinstance(module, nn.Dense) and axes == 2:
        return "dense"
    # A lifted transformation such as `nn.scan` stacks kernels along one more axis.
    size = getattr(module, "kernel_size", ())
    is_single = axes == 2 + (1 if isinstance(size, int) else len(size))
    if type(module) is nn.Conv and is_single:
        return "convolution"
    if isinstance(module, nn.ConvTranspose) and is_single:
        # With `transpose_kernel`, Flax has (*size, out, in) and flips the kernel itself.
        return "convolution" if module.transpose_kernel else "transposed convolution"
    raise ValueError(
        f"expected kernels of Dense, Conv and ConvTranspose, got that of a "
        f"{type(module).__name__} with {axes} axes at {'/'.join(path)}. Its layout in "
        f"{framework.name} is not known. Perhaps nn.scan or nn.vmap stacks it. Convert this layer "
        f"by hand, or use one of those."
    )


def _spatial_axes_of_branch(path: ModulePath, structure: Structure) -> int:
    """Return the number of spatial axes that kernels of a branch have in the references."""
    branch = structure.layers.get(path[:-2])
    if branch is None or not isinstance(branch.module, Branch):
        return 0
    return branch.spatial_axes
