"""Map the arrays of a checkpoint to the variables of a linen module, and back."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from aff_jax.attention.branches import Branch, branch_names
from aff_jax.convert.causes import guess_cause
from aff_jax.convert.entries import KERNEL_LAYOUTS, UNREAD, Entry
from aff_jax.convert.rules import Framework
from aff_jax.convert.stacks import find_stacks, index_of, numbered_name
from aff_jax.differences import DifferentArraysError, list_differences
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
    """List every array of the framework's checkpoint, including the `UNREAD` ones.

    Args:
        structure: Structure of the linen module, from `inspect_module`.
        framework: Names in the framework of the checkpoint.

    Returns:
        One entry per array, unread ones last.

    Raises:
        ValueError: If a kernel belongs to a layer other than `Dense`, `DenseGeneral`, `Conv` and
            `ConvTranspose`.
    """
    read_entries = list(_list_read_entries(structure, framework))
    return [*read_entries, *_list_unread_branches(read_entries, structure, framework)]


def _list_read_entries(structure: Structure, framework: Framework) -> Iterator[Entry]:
    """Yield an entry for each array of the module, once per layer of a stack."""
    all_stacks = find_stacks(structure)
    for collection in ("params", "batch_stats"):
        for path, leaf in structure.leaves(collection):
            stacks = all_stacks.get((collection, *path), [])
            for numbers in itertools.product(*(range(stack.length) for stack in stacks)):
                name = numbered_name(framework, path[:-1], structure, stacks, numbers)
                index = index_of(stacks, numbers, len(leaf.shape))
                entry = Entry(
                    name, (), collection, path, leaf.dtype, tuple(leaf.shape), index=index
                )
                yield _complete(entry, structure, framework)


def _complete(entry: Entry, structure: Structure, framework: Framework) -> Entry:
    """Add the name of the variable, the shape and the layout to an entry of a layer."""
    module_path, leaf_name = entry.path[:-1], entry.path[-1]
    is_norm = module_path in structure.norms
    names = framework.norm if is_norm else framework.other
    layer = structure.layers.get(module_path)
    module = layer.module if layer else None
    shape, layout = entry.part_shape, "same"
    if leaf_name == "kernel":
        layout = _layout_of_kernel(entry.path, len(shape), structure, framework)
        if isinstance(module, nn.DenseGeneral):
            inputs = len(shape) - _count(module.features)
            shape = (math.prod(shape[:inputs]), math.prod(shape[inputs:]))
        shape = KERNEL_LAYOUTS[layout].framework_shape(shape)
        if layout == "dense":
            shape += (1,) * _spatial_axes_of_branch(entry.path, structure)
    elif isinstance(module, nn.DenseGeneral):
        shape = (math.prod(shape),)
    if isinstance(module, nn.PReLU):
        shape, names = (1,), framework.prelu
    full_name = ".".join(part for part in (entry.name, names.get(leaf_name, leaf_name)) if part)
    return dataclasses.replace(entry, name=full_name, shape=shape, layout=layout)


def _list_unread_branches(
    read_entries: Sequence[Entry], structure: Structure, framework: Framework
) -> Iterator[Entry]:
    """List the second global branch of every `IAFF` that shares the global branch.

    PyTorch's iAFF has it as `global_att2`, and its second iteration reads `global_att` instead.
    """
    for at, layer in structure.layers.items():
        if not (isinstance(layer.module, IAFF) and layer.module.share_global):
            continue
        scales = layer.module.scales
        for iteration in range(2, layer.module.iterations + 1):
            pairs = zip(scales, branch_names(scales), branch_names(scales, iteration), strict=True)
            for scale, first, later in pairs:
                if scale != "global":
                    continue
                own = framework.name_of(at, structure)
                first_name, later_name = (
                    framework.name_of((*at, branch), structure).removeprefix(own).strip(".")
                    for branch in (first, later)
                )
                for entry in read_entries:
                    if entry.path[: len(at) + 1] == (*at, first):
                        before, _, after = f".{entry.name}".rpartition(f".{first_name}.")
                        name = f"{before}.{later_name}.{after}".removeprefix(".")
                        yield dataclasses.replace(
                            entry,
                            name=name,
                            collection=UNREAD,
                            path=(name,),
                            fallback=entry.name,
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
        DifferentArraysError: If arrays are missing, unexpected, misshapen or not floating point.
    """
    known = {entry.name: entry for entry in entries}
    if lines := _list_wrong_arrays(known, arrays):
        raise DifferentArraysError(
            f"{source} does not match this module of {len(_list_expected(known, arrays))} arrays",
            lines,
            guess_cause(known, arrays),
        )
    flat: dict[ModulePath, Any] = {}
    for name, array in arrays.items():
        entry = known[name]
        # Unread arrays keep the checkpoint's layout and stay in NumPy: no module uses them.
        key = (entry.collection, *entry.path)
        if entry.collection == UNREAD:
            flat[key] = array.astype(entry.dtype)
        elif entry.index:
            stacked = flat.setdefault(key, np.empty(entry.leaf_shape, entry.dtype))
            stacked[entry.index] = entry.to_leaf(array)
        else:
            # Array by array: otherwise all of them would be in memory twice.
            flat[key] = jnp.asarray(entry.to_leaf(array))
    return traverse_util.unflatten_dict(
        {key: leaf if key[0] == UNREAD else jnp.asarray(leaf) for key, leaf in flat.items()}
    )


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
        DifferentArraysError: If variables are missing, unexpected or misshapen.
    """
    read_entries = [entry for entry in entries if entry.collection != UNREAD]
    unread_entries = [entry for entry in entries if entry.collection == UNREAD]
    stored = variables.get(UNREAD, {})
    leaves = {
        "/".join((collection, *path)): leaf
        for collection in ("params", "batch_stats")
        for path, leaf in traverse_util.flatten_dict(dict(variables.get(collection, {}))).items()
    }
    expected = {"/".join((e.collection, *e.path)): e.leaf_shape for e in read_entries}
    found = {name: np.shape(leaf) for name, leaf in leaves.items()}
    # Unread arrays are optional: compare only those that the variables have.
    expected |= {f"{UNREAD}/{e.name}": e.shape for e in unread_entries if e.name in stored}
    found |= {f"{UNREAD}/{name}": np.shape(array) for name, array in stored.items()}
    if lines := list_differences(expected, found):
        raise DifferentArraysError(
            "the variables do not match this module",
            lines,
            "Pass the module that the variables were created with, and inputs of the shapes that "
            "it was created for.",
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
    """Return the key of `KERNEL_LAYOUTS` for the kernel at `path`.

    Raises:
        ValueError: If the layer is not a dense layer or a convolution.
    """
    layer, parent = structure.layers.get(path[:-1]), structure.layers.get(path[:-2])
    module = layer.module if layer else None
    layout, own_axes = _layout_of_layer(module, parent.module if parent else None)
    # A variable with more axes is stacked in a way that `find_stacks` does not know.
    if layout is not None and axes == own_axes:
        return layout
    raise ValueError(
        f"expected kernels of Dense, DenseGeneral, Conv and ConvTranspose, got the kernel of a "
        f"{type(module).__name__} with {axes} axes at {'/'.join(path)}. Its layout in "
        f"{framework.name} is not known. Convert this layer by hand, or use a layer of these kinds."
    )


def _layout_of_layer(module: nn.Module | None, parent: nn.Module | None) -> tuple[str | None, int]:
    """Return the layout of a layer's kernel, None if it is not known, and its number of axes."""
    if isinstance(module, nn.DenseGeneral) and not module.batch_dims:
        return "dense", _count(module.axis) + _count(module.features)
    if type(module) is nn.Conv:
        return "convolution", 2 + _count(module.kernel_size)
    if isinstance(module, nn.ConvTranspose):
        # With `transpose_kernel`, Flax has (*size, out, in) and flips the kernel itself.
        layout = "convolution" if module.transpose_kernel else "transposed convolution"
        return layout, 2 + _count(module.kernel_size)
    # The layers of `nn.OptimizedLSTMCell` have a private class.
    if isinstance(module, nn.Dense) or isinstance(parent, nn.OptimizedLSTMCell):
        return "dense", 2
    return None, 0


def _count(axes: int | Sequence[int]) -> int:
    """Return the number of axes that a field gives, such as `features` or `kernel_size`."""
    return 1 if isinstance(axes, int) else len(axes)


def _spatial_axes_of_branch(path: ModulePath, structure: Structure) -> int:
    """Return the number of spatial axes that kernels of a branch have in the framework."""
    branch = structure.layers.get(path[:-2])
    if branch is None or not isinstance(branch.module, Branch):
        return 0
    return branch.spatial_axes
