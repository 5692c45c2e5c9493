"""Arrays of a checkpoint and variables of a module: an entry for each, and nothing left over."""

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from aff_jax.attention.ms_cam import Branch, branch_names
from aff_jax.convert.entries import LAYOUTS, UNREAD, Entry
from aff_jax.convert.rules import Framework
from aff_jax.fusion.iaff import IAFF
from aff_jax.inspection import Path, Structure

__all__ = ["Variables", "list_entries", "read_arrays", "renamed", "write_arrays"]

Variables = dict[str, Any]
"""Collections by name: "params", "batch_stats", and `UNREAD` where there is such a thing."""

NEAREST = 20
"""For how many names that do not fit the nearest is looked for; it takes a while each."""


def list_entries(structure: Structure, framework: Framework) -> list[Entry]:
    """Every array of the reference's checkpoint, `UNREAD` ones included."""
    read = list(_read_entries(structure, framework))
    return [*read, *_second_global_branches(read, structure, framework)]


def _read_entries(structure: Structure, framework: Framework) -> Iterator[Entry]:
    for collection in ("params", "batch_stats"):
        for path, leaf in structure.leaves(collection):
            is_norm = path[:-1] in structure.norms
            names = framework.norm if is_norm else framework.other
            name = framework.name_of(path[:-1], structure)
            leaf_name = names.get(path[-1], path[-1])
            shape, layout = tuple(leaf.shape), "same"
            if path[-1] == "kernel":
                layout = _layout_of_kernel(path, len(shape), structure, framework)
                shape = LAYOUTS[layout].shape(shape)
                if layout == "dense":
                    shape += (1,) * _spatial_axes_of_branch(path, structure)
            full_name = f"{name}.{leaf_name}" if name else leaf_name
            yield Entry(full_name, shape, collection, path, leaf.dtype, tuple(leaf.shape), layout)


def _second_global_branches(
    read: Sequence[Entry], structure: Structure, framework: Framework
) -> Iterator[Entry]:
    """`global_att2` of a PyTorch iAFF, whose second pass reads the first's global branch again."""
    for at, layer in structure.layers.items():
        if not (isinstance(layer.module, IAFF) and layer.module.share_global):
            continue
        scales = layer.module.scales
        for reading in range(2, layer.module.iterations + 1):
            own = zip(scales, branch_names(scales), branch_names(scales, reading), strict=True)
            for scale, first, later in own:
                first_at, later_at = (*at, first), (*at, later)
                for entry in read if scale == "global" else ():
                    if entry.path[: len(first_at)] == first_at:
                        path = later_at + entry.path[len(first_at) :]
                        leaf = entry.name.rpartition(".")[2]
                        name = f"{framework.name_of(path[:-1], structure)}.{leaf}"
                        yield dataclasses.replace(
                            entry, name=name, collection=UNREAD, path=(name,), stand_in=entry.name
                        )


def read_arrays(entries: Sequence[Entry], arrays: Mapping[str, np.ndarray], what: str) -> Variables:
    """The variables that the arrays hold; `what` holds them is said in errors.

    Raises:
        ValueError: arrays are missing, unexpected or misshapen; lists all of them.
    """
    known = {entry.name: entry for entry in entries}
    lines = _missing(known, arrays) + _unexpected(known, arrays) + _misfits(known, arrays)
    if lines:
        raise ValueError(
            f"{what} does not fit this module: of {len(known)} arrays, {len(lines)} differ.\n"
            + "\n".join(lines)
            + f"\n{_advice(known, arrays)}"
        )
    flat: dict[Path, Any] = {}
    for name, array in arrays.items():
        entry = known[name]
        unread = entry.collection == UNREAD  # as it was written, so that nobody takes it for ours
        leaf = array.astype(entry.dtype) if unread else jnp.asarray(entry.to_ours(array))
        flat[(entry.collection, *entry.path)] = leaf
    return traverse_util.unflatten_dict(flat)


def write_arrays(entries: Sequence[Entry], variables: Variables) -> dict[str, np.ndarray]:
    """The checkpoint that holds those variables, in the order of the entries.

    What the network never reads is written back as it came, or as a copy of what is read instead.

    Raises:
        ValueError: leaves are missing, unexpected or misshapen; lists all of them.
    """
    unread = variables.get(UNREAD, {})
    leaves = {
        "/".join((collection, *path)): leaf
        for collection in ("params", "batch_stats")
        for path, leaf in traverse_util.flatten_dict(dict(variables.get(collection, {}))).items()
    }
    wanted = {"/".join((e.collection, *e.path)): e for e in entries if e.collection != UNREAD}
    lines = [f"  missing     {name}" for name in wanted if name not in leaves]
    lines += [f"  unexpected  {name}" for name in leaves if name not in wanted]
    lines += [
        f"  misshapen   {name}: {np.shape(leaves[name])}, expected {entry.leaf_shape}"
        for name, entry in wanted.items()
        if name in leaves and np.shape(leaves[name]) != entry.leaf_shape
    ]
    shapes = {entry.name: entry.shape for entry in entries if entry.collection == UNREAD}
    lines += [f"  unexpected  unread/{name}" for name in unread if name not in shapes]
    lines += [
        f"  misshapen   unread/{name}: {np.shape(unread[name])}, expected {shape}"
        for name, shape in shapes.items()
        if name in unread and np.shape(unread[name]) != shape
    ]
    if lines:
        raise ValueError(
            f"the variables are not this module's: {len(lines)} differ.\n"
            + "\n".join(lines)
            + "\nGive the module that they were made with, and inputs like those it was made for."
        )
    written: dict[str, np.ndarray] = {}
    for entry in entries:
        if entry.collection == UNREAD:
            stand_in = written[entry.stand_in]
            written[entry.name] = np.array(unread.get(entry.name, stand_in))
        else:
            written[entry.name] = entry.to_theirs(leaves["/".join((entry.collection, *entry.path))])
    return written


def renamed(
    arrays: Mapping[str, Any], rename: Mapping[str, str] | None, strict: bool = True
) -> dict[str, Any]:
    """The arrays with the longest fitting prefix of each name replaced.

    A prefix ends at a dot; the empty one stands before every name.

    Raises:
        ValueError: two names become one, or, if `strict`, a prefix fits no name.
    """
    prefixes = sorted(rename or {}, key=len, reverse=True)
    unused = set(prefixes)
    result: dict[str, Any] = {}
    for name, array in arrays.items():
        new = name
        for prefix in prefixes:
            dotted = f"{prefix}." if prefix else ""
            if f"{name}.".startswith(dotted):
                rest = name[len(dotted) :]
                new = ".".join(part for part in ((rename or {})[prefix], rest) if part)
                unused.discard(prefix)
                break
        if new in result:
            raise ValueError(f"rename makes two arrays {new!r}; one of them was {name!r}.")
        result[new] = array
    if unused and strict:
        raise ValueError(
            f"rename: no name begins with {', '.join(map(repr, sorted(unused)))}. Names are such "
            f"as {', '.join(list(arrays)[:3])}."
        )
    return result


def _missing(known: Mapping[str, Entry], arrays: Mapping[str, np.ndarray]) -> list[str]:
    # What is never read may be left out, but all of it: half a branch is a damaged checkpoint.
    some_unread = any(e.name in arrays for e in known.values() if e.collection == UNREAD)
    absent = [
        entry
        for entry in known.values()
        if entry.name not in arrays and (some_unread or entry.collection != UNREAD)
    ]
    spare = [name for name in arrays if name not in known]
    return [
        f"  missing     {entry.name} {entry.shape}{_nearest(number, entry.name, spare)}"
        for number, entry in enumerate(absent)
    ]


def _unexpected(known: Mapping[str, Entry], arrays: Mapping[str, np.ndarray]) -> list[str]:
    absent = [name for name in known if name not in arrays]
    spare = [name for name in arrays if name not in known]
    return [
        f"  unexpected  {name} {arrays[name].shape}{_nearest(number, name, absent)}"
        for number, name in enumerate(spare)
    ]


def _misfits(known: Mapping[str, Entry], arrays: Mapping[str, np.ndarray]) -> list[str]:
    lines = []
    for name, entry in known.items():
        array = arrays.get(name)
        if array is None:
            continue
        if not entry.fits(array):
            lines.append(f"  misshapen   {name}: {array.shape}, expected {entry.shape}")
        elif not jnp.issubdtype(array.dtype, jnp.floating):
            lines.append(f"  wrong kind  {name}: {array.dtype}, expected floating point")
    return lines


def _nearest(number: int, name: str, others: Sequence[str]) -> str:
    # Looking through hundreds of names takes a while for each: the first ones tell enough.
    near = difflib.get_close_matches(name, others, n=1, cutoff=0.7) if number < NEAREST else []
    return f"   (nearest: {near[0]})" if near else ""


def _advice(known: Iterable[str], arrays: Iterable[str]) -> str:
    """What probably went wrong, read off the names."""
    here, there = _fusion_in(known), _fusion_in(arrays)
    if here != there:
        return f"The checkpoint looks like one of fusion={there!r}, the module like {here!r}."
    return "Probably it is of another network, or its names have another prefix: see `rename`."


def _fusion_in(names: Iterable[str]) -> str:
    joined = "\n".join(names)
    for mark, fusion in (("local_att2", "iaff"), ("local_att", "aff")):
        if mark in joined:
            return fusion
    return "add"


def _layout_of_kernel(path: Path, axes: int, structure: Structure, framework: Framework) -> str:
    """By the layer that it belongs to.

    Raises:
        ValueError: a layer whose kernel means something else in every framework.
    """
    layer = structure.layers.get(path[:-1])
    module = layer.module if layer else None
    if isinstance(module, nn.Dense) and axes == 2:
        return "dense"
    if type(module) is nn.Conv and axes > 2:
        return "convolution"
    if isinstance(module, nn.ConvTranspose) and axes > 2:
        # With `transpose_kernel` it is (*size, out, in) here and mirrored by Flax.
        return "convolution" if module.transpose_kernel else "transposed convolution"
    raise ValueError(
        f"expected kernels of Dense, Conv and ConvTranspose, got that of a "
        f"{type(module).__name__} with {axes} axes at {'/'.join(path)}, whose layout in "
        f"{framework.name} is not known here. Convert this layer by hand, or use one of those."
    )


def _spatial_axes_of_branch(path: Path, structure: Structure) -> int:
    """How many ones end the reference's kernel: a branch's layers are convolutions there."""
    branch = structure.layers.get(path[:-2])
    if branch is None or not isinstance(branch.module, Branch):
        return 0
    return branch.spatial_axes
