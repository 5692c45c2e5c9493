"""Find the variables in which `nn.scan` and `nn.vmap` stack the arrays of several layers.

PyTorch has such layers in a `ModuleList` or `Sequential`. A variable `layers/conv/kernel` that
stacks two kernels belongs to `layers.0.conv.weight` and `layers.1.conv.weight`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from aff_jax.convert.rules import Framework
from aff_jax.inspection import ModulePath, Structure

__all__ = ["Stack", "find_stacks", "index_of", "numbered_name"]

_Shape = tuple[int, ...]


class Stack(NamedTuple):
    """One axis along which a variable stacks the arrays of several layers.

    Attributes:
        depth: Number of components of the path of the stacked module.
        axis: Index of the axis, without counting the axes of the outer stacks.
        length: Number of layers.
    """

    depth: int
    axis: int
    length: int


def find_stacks(structure: Structure) -> dict[ModulePath, list[Stack]]:
    """Find the stacks of every variable.

    A variable is stacked if a module sees it with one axis fewer than the module around it. If
    the shapes allow several axes, the first axis that fits all variables of the module is chosen.

    Args:
        structure: Structure of a linen module.

    Returns:
        Stacks from the outermost to the innermost, by collection and path of the variable.
        Variables that are not stacked are left out.
    """
    seen = {
        (collection, *path): tuple(leaf.shape)
        for collection in structure.variables
        for path, leaf in structure.leaves(collection)
    }
    stacks: dict[ModulePath, list[Stack]] = {}
    for root, layer in sorted(structure.layers.items(), key=lambda item: len(item[0])):
        inner = {
            (collection, *root, *path): shape for (collection, *path), shape in layer.shapes.items()
        }
        inner = {k: s for k, s in inner.items() if k in seen and len(s) == len(seen[k]) - 1}
        for collection in {key[0] for key in inner}:
            own = {key: shape for key, shape in inner.items() if key[0] == collection}
            axis = _common_axis({key: seen[key] for key in own}, own)
            if axis is None:
                continue
            for key, shape in own.items():
                stacks.setdefault(key, []).append(Stack(len(root), axis, seen[key][axis]))
                seen[key] = shape
    return stacks


def _common_axis(
    outer: Mapping[ModulePath, _Shape], inner: Mapping[ModulePath, _Shape]
) -> int | None:
    """Return the first axis without which all outer shapes are the inner ones, or None."""
    longest = max(map(len, outer.values()))
    for axis in sorted(range(-longest, longest), key=lambda axis: (axis != 0, axis != -1, axis)):
        if all(_without(outer[key], axis) == shape for key, shape in inner.items()):
            return axis
    return None


def _without(shape: _Shape, axis: int) -> _Shape | None:
    if not -len(shape) <= axis < len(shape):
        return None
    kept = list(shape)
    del kept[axis]
    return tuple(kept)


def numbered_name(
    framework: Framework,
    path: ModulePath,
    structure: Structure,
    stacks: Sequence[Stack] = (),
    numbers: Sequence[int] = (),
) -> str:
    """Return the name of a submodule in the framework, with the numbers of its layers.

    Args:
        framework: Names in the framework of the checkpoint.
        path: Path of the submodule.
        structure: Structure of the module that contains it.
        stacks: Stacks of its variables.
        numbers: Number of the layer in each of the stacks, from 0.

    Returns:
        Components joined by dots.
    """
    parts: list[str] = []
    start = ""
    for stack, number in zip(stacks, numbers, strict=True):
        name = framework.name_of(path[: stack.depth], structure)
        parts += [name.removeprefix(start).strip("."), str(number)]
        start = name
    parts.append(framework.name_of(path, structure).removeprefix(start).strip("."))
    return ".".join(part for part in parts if part)


def index_of(stacks: Sequence[Stack], numbers: Sequence[int], axes: int) -> tuple[int | slice, ...]:
    """Return the index of the part of a variable that belongs to one layer.

    Args:
        stacks: Stacks of the variable.
        numbers: Number of the layer in each of the stacks, from 0.
        axes: Number of axes of the variable.

    Returns:
        One number or full slice for each axis; an empty tuple for no stacks.
    """
    if not stacks:
        return ()
    index: list[int | slice] = [slice(None)] * axes
    left = list(range(axes))
    for stack, number in zip(stacks, numbers, strict=True):
        index[left.pop(stack.axis)] = number
    return tuple(index)
