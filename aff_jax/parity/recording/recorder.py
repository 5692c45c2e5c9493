"""Record the calls of submodules while a program of JAX runs."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Call", "Inputs", "Recorder", "is_array", "list_leaves", "record"]

_COMPILE_FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Options of XLA for a program that runs twice: compiling it takes longer than running it."""

_ARRAY = object()
"""Stands for an array among flags."""


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
        keys: For each array of `outputs`, its key if the call returned a dict, such as "logits" or
            "parts.0", and otherwise an empty string.
    """

    module: str
    number: int
    outputs: tuple[np.ndarray, ...]
    inputs: tuple[np.ndarray, ...] = ()
    keys: tuple[str, ...] = ()


def is_array(x: Any) -> bool:
    """Return whether a leaf of the inputs or outputs is an array of numbers.

    Args:
        x: Any value.

    Returns:
        True for NumPy and JAX arrays, except for arrays of random keys.
    """
    return isinstance(x, np.ndarray | np.generic | jax.Array) and not jnp.issubdtype(
        x.dtype, jax.dtypes.extended
    )


def list_leaves(tree: Any, outer: tuple[str | int, ...] = ()) -> list[tuple[str, Any]]:
    """List the leaves of a tree with their keys.

    Args:
        tree: Dicts, sequences, data classes and other values. Dicts keep their order.
        outer: Keys and positions of the tree in the tree that contains it.

    Returns:
        Pairs of a key and a leaf. The key joins the keys and positions on the way to the leaf with
        dots. It is empty if there are only positions.
    """
    items: Iterable[tuple[str | int, Any]]
    if isinstance(tree, Mapping):
        items = [(str(key), value) for key, value in tree.items()]
    elif isinstance(tree, tuple) and (names := getattr(tree, "_fields", ())):
        items = zip(names, tree, strict=True)
    elif isinstance(tree, list | tuple):
        items = enumerate(tree)
    elif dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        items = [(field.name, getattr(tree, field.name)) for field in dataclasses.fields(tree)]
    else:
        is_named = any(isinstance(step, str) for step in outer)
        key = ".".join(map(str, outer)) if is_named else ""
        return [(key, leaf) for leaf in jax.tree.leaves(tree)]
    return [pair for step, value in items for pair in list_leaves(value, (*outer, step))]


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
        outputs = [(key, leaf) for key, leaf in list_leaves(output) if is_array(leaf)]
        keys = tuple(key for key, _ in outputs)
        given = [leaf for _, leaf in list_leaves(inputs) if is_array(leaf)]
        arrays = ([leaf for _, leaf in outputs], given if path in self._inputs_of else [])
        dtypes = jax.tree.map(lambda x: x.dtype, arrays)
        keep = functools.partial(self._keep, path, dtypes, keys)
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

    def _keep(
        self, path: str, dtypes: Any, keys: tuple[str, ...], outputs: Any, inputs: Any
    ) -> None:
        """Add a call whose arrays were computed."""
        self._numbers[path] += 1
        outputs, inputs = jax.tree.map(_unpack, (outputs, inputs), dtypes)
        number = self._numbers[path]
        self._calls.append(Call(path, number, tuple(outputs), tuple(inputs), keys))


def record(
    program: Callable[..., Any], runs: Iterable[tuple[Any, Inputs]], recorder: Recorder
) -> list[list[Call]]:
    """Compile a program, run it, and return the calls that it makes.

    Args:
        program: Function of variables and the arguments of a network. It calls `recorder.note`.
        runs: Variables and inputs of each run. Runs differ in the values of arrays only. Flags
            among the inputs stay Python values.
        recorder: Records the calls.

    Returns:
        For each run, the calls in the order in which they end.
    """

    @functools.partial(jax.jit, static_argnums=(2, 3), compiler_options=_COMPILE_FAST)
    def run(variables: Any, arrays: Sequence[Any], flags: Sequence[Any], treedef: Any) -> None:
        given = iter(arrays)
        leaves = [next(given) if flag is _ARRAY else flag for flag in flags]
        args, kwargs = jax.tree.unflatten(treedef, leaves)
        program(variables, *args, **kwargs)

    recorded = []
    for variables, inputs in runs:
        leaves, treedef = jax.tree.flatten(tuple(inputs))
        # Random keys are arrays of JAX as well.
        traced = [is_array(leaf) or isinstance(leaf, jax.Array) for leaf in leaves]
        pairs = list(zip(leaves, traced, strict=True))
        flags = tuple(_ARRAY if is_traced else leaf for leaf, is_traced in pairs)
        arrays = [leaf for leaf, is_traced in pairs if is_traced]
        with jax.default_matmul_precision("highest"):
            run(variables, arrays, flags, treedef)
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
