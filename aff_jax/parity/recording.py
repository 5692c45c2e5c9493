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
    "COMPILE_FAST",
    "Call",
    "Inputs",
    "Recorder",
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


class Recorder:
    """Records calls inside a program of JAX.

    The outputs leave the compiled program through ordered callbacks. So calls inside `nn.remat`,
    `nn.jit` and `nn.scan` are recorded as well, one for each iteration.

    Args:
        inputs_of: Paths of the submodules whose inputs are recorded too.
    """

    def __init__(self, inputs_of: Collection[str] = ()) -> None:
        self._inputs_of = inputs_of
        self._calls: list[Call] = []
        self._numbers: Counter[str] = Counter()

    def note(self, path: str, output: Any, inputs: Any) -> None:
        """Record a call when the program runs.

        Args:
            path: Path of the submodule.
            output: What the call returned.
            inputs: Arguments of the call.
        """
        arrays = (_arrays(output), _arrays(inputs) if path in self._inputs_of else [])
        dtypes = jax.tree.map(lambda x: x.dtype, arrays)
        keep = functools.partial(self._keep, path, dtypes)
        jax.debug.callback(keep, *jax.tree.map(_pack, arrays), ordered=True)

    def take(self) -> list[Call]:
        """Wait for the program, and return the calls since the last time.

        Returns:
            The calls in the order in which they ended.
        """
        jax.effects_barrier()
        calls, self._calls = self._calls, []
        self._numbers.clear()
        return calls

    def _keep(self, path: str, dtypes: Any, outputs: Any, inputs: Any) -> None:
        self._numbers[path] += 1
        outputs, inputs = jax.tree.map(_unpack, (outputs, inputs), dtypes)
        self._calls.append(Call(path, self._numbers[path], tuple(outputs), tuple(inputs)))


def record_linen(
    module: nn.Module,
    runs: Sequence[tuple[Mapping[str, Any], Inputs]],
    inputs_of: Collection[str] = (),
) -> list[list[Call]]:
    """Run a linen module and record the outputs of all submodules.

    Args:
        module: The module.
        runs: Variables and inputs of each run. Runs differ in the values of arrays only.
        inputs_of: Paths of the submodules whose inputs are recorded too.

    Returns:
        For each run, the calls in the order in which they end. The last one is that of `module`.
    """
    recorder = Recorder(inputs_of)

    def note(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output = call(*args, **kwargs)
        if context.method_name == "__call__":
            recorder.note("/".join(context.module.path), output, (args, kwargs))
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
        recorded.append(recorder.take())
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


def record_torch(
    module: Any, inputs: Inputs, inputs_of: Collection[str] = (), moves: bool = False
) -> list[Call]:
    """Run a PyTorch module and record the outputs of all submodules.

    Args:
        module: A `torch.nn.Module`, from `copy_torch`.
        inputs: Its inputs. Arrays become tensors.
        inputs_of: Names of the submodules whose inputs are recorded too.
        moves: Move every floating-point input of every submodule by one unit in the last place, to
            measure how the network amplifies the rounding of what it computes.

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

    generator = torch.Generator().manual_seed(0)

    def move(x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            return x
        up = torch.rand(x.shape, generator=generator) < 0.5
        infinity = torch.full((), torch.inf, dtype=x.dtype)
        return torch.nextafter(x, torch.where(up, infinity, -infinity))

    def move_inputs(_module: Any, args: Any, kwargs: Any) -> Any:
        return tuple(map(move, args)), {name: move(value) for name, value in kwargs.items()}

    hooks = []
    for name, submodule in module.named_modules():
        if moves:
            hooks.append(submodule.register_forward_pre_hook(move_inputs, with_kwargs=True))
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
