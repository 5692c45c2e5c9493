"""Arrays of a checkpoint and variables of a module: an entry for each, and nothing left over."""

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from aff_jax.attention.ms_cam import ContextBranch, branch_names
from aff_jax.convert.rules import Framework
from aff_jax.convert.structure import Path, Structure
from aff_jax.fusion.attentional import IAFF

__all__ = ["UNREAD", "Entry", "list_entries", "read_arrays", "renamed", "write_arrays"]

Variables = dict[str, Any]

UNREAD = "unread"
"""Collection of what a checkpoint holds and its network never reads, by its name there."""

NEAREST = 20
"""For how many names that do not fit the nearest is looked for; it takes a while each."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One array: its `name` and `shape` in the checkpoint, and where it is among the variables.

    `collection` is `UNREAD` for what the network never reads; `path` leads to the leaf, of
    `leaf_shape` and `dtype`. `layout`: a "dense" kernel is (in, out) here and (out, in, 1 ...)
    there, with as many ones as the reference's convolution has spatial axes; a "convolution" is
    (*size, in, out) here and (out, in, *size) there; all else is the "same". `stand_in` names the
    entry that is written for an unread one that never came.
    """

    name: str
    shape: tuple[int, ...]
    collection: str
    path: Path
    dtype: Any
    leaf_shape: tuple[int, ...]
    layout: str = "same"
    stand_in: str = ""

    def fits(self, array: np.ndarray) -> bool:
        """Whether the array has this shape; a dense kernel may end in more or fewer ones."""
        if self.layout == "dense":
            rest = array.shape[2:]
            return array.shape[:2] == self.shape[:2] and all(size == 1 for size in rest)
        return array.shape == self.shape

    def to_ours(self, array: np.ndarray) -> np.ndarray:
        """The leaf, in our layout and dtype."""
        if self.layout == "dense":
            array = array.reshape(array.shape[:2]).T
        elif self.layout == "convolution":
            array = array.transpose(*range(2, array.ndim), 1, 0)
        return array.astype(self.dtype)

    def to_theirs(self, leaf: Any) -> np.ndarray:
        """The array, in the checkpoint's layout and the leaf's dtype."""
        array = np.asarray(leaf)
        if self.layout == "dense":
            array = array.T.reshape(self.shape)
        elif self.layout == "convolution":
            array = array.transpose(-1, -2, *range(array.ndim - 2))
        # A copy: arrays of JAX can't be written to, which PyTorch's tensors must.
        return np.array(array, order="C").reshape(self.shape)


def list_entries(structure: Structure, framework: Framework) -> list[Entry]:
    """Every array of the reference's checkpoint, `UNREAD` ones included."""
    read = list(_read_entries(structure, framework))
    return [*read, *_second_global_branches(read, structure, framework)]


def _read_entries(structure: Structure, framework: Framework) -> Iterator[Entry]:
    for collection in ("params", "batch_stats"):
        for path, leaf in _leaves(structure, collection):
            is_norm = path[:-1] in structure.norms
            names = framework.norm if is_norm else framework.other
            name = framework.name_of(path[:-1], structure)
            leaf_name = names.get(path[-1], path[-1])
            shape, layout = tuple(leaf.shape), "same"
            if path[-1] == "kernel" and len(shape) == 2:
                ones = _spatial_axes_of_branch(path, structure)
                shape, layout = (*shape[::-1], *[1] * ones), "dense"
            elif path[-1] == "kernel":
                shape, layout = (shape[-1], shape[-2], *shape[:-2]), "convolution"
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
    lines = _missing(known, arrays) + _unexpected(known, arrays) + _misshapen(known, arrays)
    if lines:
        raise ValueError(
            f"{what} does not fit this module: of {len(known)} arrays, {len(lines)} differ.\n"
            + "\n".join(lines)
            + f"\n{_advice(known, arrays)}"
        )
    flat: dict[Path, Any] = {}
    for name, array in arrays.items():
        entry = known[name]
        unread = entry.collection == UNREAD
        leaf = np.array(array) if unread else jnp.asarray(entry.to_ours(array))
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


def renamed(arrays: Mapping[str, Any], rename: Mapping[str, str] | None) -> dict[str, Any]:
    """The arrays with prefixes of their names replaced; the empty prefix stands for all names.

    Raises:
        ValueError: two names become one.
    """
    result: dict[str, Any] = {}
    for name, array in arrays.items():
        new = name
        for prefix, replacement in (rename or {}).items():
            dotted = f"{prefix}." if prefix else ""
            if name.startswith(dotted):
                new = f"{replacement}." * bool(replacement) + name[len(dotted) :]
                break
        if new in result:
            raise ValueError(f"rename makes two arrays {new!r}; one of them was {name!r}.")
        result[new] = array
    return result


def _missing(known: Mapping[str, Entry], arrays: Mapping[str, np.ndarray]) -> list[str]:
    absent = [e for e in known.values() if e.name not in arrays and e.collection != UNREAD]
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


def _misshapen(known: Mapping[str, Entry], arrays: Mapping[str, np.ndarray]) -> list[str]:
    return [
        f"  misshapen   {name}: {arrays[name].shape}, expected {entry.shape}"
        for name, entry in known.items()
        if name in arrays and not entry.fits(arrays[name])
    ]


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


def _leaves(structure: Structure, collection: str) -> list[tuple[Path, Any]]:
    flat = traverse_util.flatten_dict(dict(structure.variables.get(collection, {})))
    return list(flat.items())


def _spatial_axes_of_branch(path: Path, structure: Structure) -> int:
    """How many ones end the reference's kernel: a branch's layers are convolutions there."""
    branch = structure.layers.get(path[:-2])
    if branch is None or not isinstance(branch.module, ContextBranch):
        return 0
    return branch.spatial_axes
