"""Run networks and record what their submodules return."""

import copy
import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "Call",
    "Inputs",
    "copy_torch",
    "from_tensor",
    "is_array",
    "record_linen",
    "record_torch",
]

COMPILE_FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Options of XLA for a program that runs twice: compiling it takes longer than running it."""


class Inputs(NamedTuple):
    """Arguments of a call of a network.

    Attributes:
        args: Positional arguments.
        kwargs: Keyword arguments.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Call(NamedTuple):
    """One call of a submodule.

    Attributes:
        module: Path of a linen or NNX submodule, joined by slashes, or name of a PyTorch submodule.
            It is empty for the whole network.
        number: Number of the call of this submodule, starting at 1.
        outputs: Arrays that the call returned.
        inputs: Arrays that the call got, if they were asked for.
    """

    module: str
    number: int
    outputs: tuple[np.ndarray, ...]
    inputs: tuple[np.ndarray, ...] = ()


def is_array(x: Any) -> bool:
    """Return whether a leaf of the inputs or outputs is an array of numbers.

    Args:
        x: Any value.

    Returns:
        True for NumPy and JAX arrays, except for those of random keys.
    """
    return isinstance(x, np.ndarray | np.generic | jax.Array) and not jax.dtypes.issubdtype(
        x.dtype, jax.dtypes.extended
    )


def record_linen(
    module: nn.Module,
    runs: Sequence[tuple[Mapping[str, Any], Inputs]],
    inputs_of: Collection[str] = (),
) -> list[list[Call]]:
    """Run a linen module and record the outputs of all submodules.

    The outputs leave the compiled program through ordered callbacks. So calls inside `nn.remat`,
    `nn.jit` and `nn.scan` are recorded as well, one for each iteration.

    Args:
        module: The module.
        runs: Variables and inputs of each run. Runs differ in the values of arrays only.
        inputs_of: Paths of the submodules whose inputs are recorded too.

    Returns:
        For each run, the calls in the order in which they end. The last one is that of `module`.
    """
    calls: list[Call] = []
    numbers: Counter[str] = Counter()

    def keep(path: str, dtypes: Any, outputs: Sequence[Any], inputs: Sequence[Any]) -> None:
        numbers[path] += 1
        outputs, inputs = jax.tree.map(_unpack, (outputs, inputs), dtypes)
        calls.append(Call(path, numbers[path], tuple(outputs), tuple(inputs)))

    def note(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output = call(*args, **kwargs)
        if context.method_name == "__call__":
            path = "/".join(context.module.path)
            arrays = (_arrays(output), _arrays((args, kwargs)) if path in inputs_of else [])
            dtypes = jax.tree.map(lambda x: x.dtype, arrays)
            keep_call = functools.partial(keep, path, dtypes)
            jax.debug.callback(keep_call, *jax.tree.map(_pack, arrays), ordered=True)
        return output

    leaves, structure = jax.tree.flatten(tuple(runs[0][1]))

    @functools.partial(jax.jit, compiler_options=COMPILE_FAST)
    def run(variables: Mapping[str, Any], arrays: Sequence[Any]) -> None:
        # Flags stay Python values.
        given = iter(arrays)
        filled = [next(given) if is_array(leaf) else leaf for leaf in leaves]
        args, kwargs = jax.tree.unflatten(structure, filled)
        with nn.intercept_methods(note):
            module.apply(variables, *args, **kwargs)

    recorded = []
    for variables, inputs in runs:
        with jax.default_matmul_precision("highest"):
            run(variables, _arrays(tuple(inputs)))
        jax.effects_barrier()
        recorded.append(list(calls))
        calls.clear()
        numbers.clear()
    return recorded


def _pack(x: Any) -> jax.Array:
    """Split numbers of 64 bits in two, since JAX may run callbacks in threads without x64."""
    x = jnp.asarray(x)
    is_wide = x.dtype.itemsize == 8 and x.dtype.kind in "fiu"
    return jax.lax.bitcast_convert_type(x, jnp.uint32) if is_wide else x


def _unpack(x: Any, dtype: Any) -> np.ndarray:
    """Undo `_pack`. Copy: the buffers belong to the running program."""
    array = np.array(x, order="C")
    return array if array.dtype == dtype else array.view(dtype)[..., 0]


def copy_torch(module: Any, dtype: str) -> Any:
    """Copy a PyTorch module for a comparison.

    Args:
        module: A `torch.nn.Module`. It is not changed.
        dtype: "float32" or "float64".

    Returns:
        A copy on the CPU, of floating-point dtype `dtype`, in evaluation mode, without the wrappers
        `DataParallel`, `DistributedDataParallel` and those of `torch.compile`.
    """
    import torch

    def unwrap(module: Any) -> Any:
        while True:
            if isinstance(
                module, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel
            ):
                module = module.module
            elif hasattr(module, "_orig_mod"):  # of torch.compile, whose class takes long to import
                module = module._orig_mod
            else:
                return module

    module = copy.deepcopy(unwrap(module))
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if unwrap(child) is not child:
                setattr(parent, name, unwrap(child))
    return module.to("cpu", getattr(torch, dtype)).eval()


def record_torch(module: Any, inputs: Inputs, inputs_of: Collection[str] = ()) -> list[Call]:
    """Run a PyTorch module and record the outputs of all submodules.

    Args:
        module: A `torch.nn.Module`, from `copy_torch`.
        inputs: Its inputs. Arrays become tensors.
        inputs_of: Names of the submodules whose inputs are recorded too.

    Returns:
        The calls in the order in which they end. The last one is that of `module`. A submodule with
        several names has the first of them.
    """
    import torch

    calls: list[Call] = []
    numbers: Counter[str] = Counter()
    given: dict[str, list[tuple[np.ndarray, ...]]] = {}

    def to_arrays(tree: Any) -> tuple[np.ndarray, ...]:
        return tuple(from_tensor(x) for x in _leaves(tree) if isinstance(x, torch.Tensor))

    def before(name: str) -> Callable[..., None]:
        # Recorded before the call, which may change its input in place.
        def note(_module: Any, args: Any, kwargs: Any) -> None:
            given.setdefault(name, []).append(to_arrays((args, kwargs)))

        return note

    def after(name: str) -> Callable[..., None]:
        def note(_module: Any, _args: Any, output: Any) -> None:
            numbers[name] += 1
            inputs = given[name].pop() if name in inputs_of else ()
            calls.append(Call(name, numbers[name], to_arrays(output), inputs))

        return note

    hooks = []
    for name, submodule in module.named_modules():
        if name in inputs_of:
            hooks.append(submodule.register_forward_pre_hook(before(name), with_kwargs=True))
        hooks.append(submodule.register_forward_hook(after(name)))

    def to_tensor(x: Any) -> Any:
        # Copy: NumPy views of JAX arrays are read-only, and PyTorch needs writable memory.
        return torch.from_numpy(np.array(x, order="C")) if is_array(x) else x

    args, kwargs = jax.tree.map(to_tensor, tuple(inputs))
    try:
        with torch.no_grad():
            module(*args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _arrays(tree: Any) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(tree) if is_array(leaf)]


def _leaves(tree: Any) -> list[Any]:
    """List the leaves of a tree, among them the values of objects such as model outputs."""
    leaves = []
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, Mapping):
            leaves += _leaves(list(leaf.values()))
        elif dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            leaves += _leaves([getattr(leaf, f.name) for f in dataclasses.fields(leaf)])
        else:
            leaves.append(leaf)
    return leaves


def from_tensor(tensor: Any) -> np.ndarray:
    """Copy a PyTorch tensor to an array.

    Args:
        tensor: The tensor.

    Returns:
        A NumPy array of the same dtype, or float32 for bfloat16, which NumPy does not have.
    """
    import torch

    tensor = tensor.detach().cpu()
    wide = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    array: np.ndarray = wide.numpy().copy()
    return array
