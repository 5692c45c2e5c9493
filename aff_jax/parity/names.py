"""Names in PyTorch of the calls of a JAX network."""

from collections.abc import Callable, Collection, Sequence

import numpy as np

from aff_jax.convert.rules import PYTORCH
from aff_jax.convert.stacks import Stack, find_stacks, numbered_name
from aff_jax.inspection import ModulePath, Structure
from aff_jax.parity.rows import Output

__all__ = ["name_outputs", "use_keys"]


def name_outputs(
    outputs: Sequence[Output],
    structure: Structure,
    first_name: Callable[[str], str],
    torch_outputs: Collection[str],
) -> list[str]:
    """Return the name in PyTorch of each output of a JAX network.

    The calls of a layer under `nn.scan` belong to different layers in PyTorch: the second call of
    `layers/conv` is `layers.1.conv`.

    Args:
        outputs: Outputs of the JAX network in order.
        structure: Structure of the JAX network.
        first_name: Returns the name under which PyTorch's calls of a submodule are recorded.
        torch_outputs: Names of the outputs of the PyTorch network. If a module such as attention
            returns several arrays in one network only, its single array is named like the first.

    Returns:
        One name for each output, with the position of the array, such as "[1]".
    """
    stacks = _stacks_by_root(structure)
    calls = {output.module: output.number for output in outputs}
    names = []
    for output in outputs:
        base, bracket, position = output.module.partition("[")
        path = tuple(base.split("/")) if base else ()
        around = next((stacks[path[:n]] for n in range(len(path), 0, -1) if path[:n] in stacks), [])
        lengths = [stack.length for stack in around]
        calls_per_layer, rest = divmod(calls[output.module], int(np.prod(lengths, dtype=int)))
        if around and not rest:
            numbers = np.unravel_index((output.number - 1) // calls_per_layer, lengths)
            name = numbered_name(PYTORCH, path, structure, around, [int(n) for n in numbers])
        else:
            name = PYTORCH.name_of(path, structure)
        name = first_name(name)
        full = name + bracket + position
        if full not in torch_outputs:
            other = name if position == "0]" else f"{name}[0]"
            full = other if position in ("", "0]") and other in torch_outputs else full
        names.append(full)
    return names


def use_keys(
    jax_outputs: Sequence[Output], torch_outputs: Sequence[Output], names: Sequence[str]
) -> tuple[list[Output], list[Output], list[str]]:
    """Name the arrays of dicts by their keys instead of their positions.

    Args:
        jax_outputs: Outputs of the JAX network.
        torch_outputs: Outputs of the PyTorch network.
        names: Name of each JAX output in PyTorch.

    Returns:
        The arguments, with other names where a call returns several arrays and the dicts of both
        networks have a key in common.
    """
    jax_keys: dict[str, set[str]] = {}
    torch_keys: dict[str, set[str]] = {}
    for name, output in zip(names, jax_outputs, strict=True):
        jax_keys.setdefault(name.partition("[")[0], set()).add(output.key)
    for output in torch_outputs:
        torch_keys.setdefault(output.module.partition("[")[0], set()).add(output.key)
    shared = {
        name
        for name in jax_keys.keys() & torch_keys.keys()
        if (jax_keys[name] & torch_keys[name]) - {""} and len(jax_keys[name] | torch_keys[name]) > 1
    }

    def rename(module: str, name: str, key: str) -> str:
        base = module.partition("[")[0]
        return f"{base}[{key}]" if name.partition("[")[0] in shared else module

    renamed = [
        o._replace(module=rename(o.module, n, o.key))
        for n, o in zip(names, jax_outputs, strict=True)
    ]
    return (
        renamed,
        [o._replace(module=rename(o.module, o.module, o.key)) for o in torch_outputs],
        [rename(name, name, o.key) for name, o in zip(names, jax_outputs, strict=True)],
    )


def _stacks_by_root(structure: Structure) -> dict[ModulePath, list[Stack]]:
    """Return the stacks around each stacked module, the outermost first."""
    roots: dict[ModulePath, list[Stack]] = {}
    for (_, *path), stacks in find_stacks(structure).items():
        for count, stack in enumerate(stacks, start=1):
            roots[tuple(path[: stack.depth])] = stacks[:count]
    return roots
