"""Inputs of the two networks: dtypes, layouts, flags, and changes of one unit in the last place."""

import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aff_jax.lookup import look_up
from aff_jax.parity.layouts import channels_first
from aff_jax.parity.recording.recorder import Inputs, is_array
from aff_jax.parity.recording.torch_recording import from_tensor

__all__ = [
    "EVALUATION",
    "as_dtype",
    "enable_dtype",
    "has_floats",
    "list_runs",
    "list_torch_inputs",
    "perturb",
    "with_evaluation_flags",
]

EVALUATION = {
    "train": False,
    "training": False,
    "is_training": False,
    "deterministic": True,
    "inference": True,
    "use_running_average": True,
}
"""Arguments that select training or evaluation, and their values in evaluation."""

_MAX_ARRAYS = 3
"""Number of arrays up to which each one has a layout of its own."""

_LAYOUTS = {
    "channels_first": channels_first,
    "same": lambda array: array,
    "sequence_first": lambda array: np.swapaxes(array, 0, 1),
}
"""For each value of `layout`, the function that gives an input the layout of PyTorch."""


def as_dtype(tree: Any, dtype: str) -> Any:
    """Convert the floating-point arrays of a tree.

    Args:
        tree: A tree of arrays, PyTorch tensors and other values.
        dtype: "float32" or "float64".

    Returns:
        The tree with NumPy arrays. Integers, flags and other values are not changed.
    """

    def convert(x: Any) -> Any:
        if hasattr(x, "detach"):
            x = from_tensor(x)
        if not is_array(x):
            return x
        return np.asarray(x, dtype if jnp.issubdtype(x.dtype, jnp.floating) else None)

    return jax.tree.map(convert, tree)


@contextlib.contextmanager
def enable_dtype(dtype: str) -> Iterator[None]:
    """Enable a dtype in JAX.

    Args:
        dtype: "float32" or "float64".

    Raises:
        ValueError: If a module mixes float32 with float64 where JAX does not allow it.
    """
    with jax.enable_x64(dtype == "float64"):
        try:
            yield
        except TypeError as error:
            if not (dtype == "float64" and "float32" in str(error) and "float64" in str(error)):
                raise
            raise ValueError(
                f"{error}\nexpected a module that computes in float64, got one with a float32 "
                f"array of its own, probably the initial state of a recurrent cell. Give it "
                f"param_dtype=jnp.float64, or compare with float64=False."
            ) from error


def has_floats(tree: Any) -> bool:
    """Return whether a tree has an array of floating-point numbers.

    Args:
        tree: A tree of arrays and other values.

    Returns:
        True if there is at least one.
    """
    return any(is_array(x) and jnp.issubdtype(x.dtype, jnp.floating) for x in jax.tree.leaves(tree))


def perturb(tree: Any, as_array: Callable[[np.ndarray], Any] = np.asarray) -> Any:
    """Change every floating-point number of a tree by one unit in the last place, up or down.

    Args:
        tree: A tree of NumPy arrays and other values.
        as_array: Converts each perturbed array. `jnp.asarray` saves the memory of a second copy if
            the arrays are for a program of JAX.

    Returns:
        The perturbed tree. Integers and other values are not changed.
    """
    rng = np.random.default_rng(0)

    def change(x: Any) -> Any:
        if not has_floats(x):
            return x
        x = np.asarray(x)
        up = rng.integers(2, size=x.shape, dtype=np.int8).astype(bool)
        infinity = np.asarray(np.inf, x.dtype)
        return as_array(np.nextafter(x, np.where(up, infinity, -infinity)))

    return jax.tree.map(change, tree)


def list_runs(
    variables: Any, inputs: Inputs, perturbed: Sequence[bool]
) -> Iterator[tuple[Any, Inputs]]:
    """List the variables and inputs of several runs, one after the other to save memory.

    Args:
        variables: Variables of the network.
        inputs: Inputs of the network.
        perturbed: For each run, whether both are changed by one unit in the last place.

    Yields:
        The variables and inputs of each run.
    """
    for is_perturbed in perturbed:
        if is_perturbed:
            yield perturb((variables, inputs), as_array=jnp.asarray)
        else:
            yield variables, inputs


def with_evaluation_flags(module: Callable[..., Any], inputs: Inputs) -> Inputs:
    """Add the flags for evaluation that a module needs and that were not given.

    Args:
        module: The module.
        inputs: Its inputs.

    Returns:
        The inputs with `train=False`, `deterministic=True` and the like, if `__call__` has such an
        argument without a default value.
    """
    signature = inspect.signature(module)
    try:
        given = signature.bind_partial(*inputs.args, **inputs.kwargs).arguments
    except TypeError:
        return inputs  # the call itself raises a better error
    missing = {
        name: EVALUATION[name]
        for name, parameter in signature.parameters.items()
        if name in EVALUATION and parameter.default is parameter.empty and name not in given
    }
    return Inputs(inputs.args, {**inputs.kwargs, **missing})


def list_torch_inputs(
    inputs: Inputs, layout: str | None, has_sequences: bool
) -> Iterator[tuple[str, Inputs]]:
    """List the inputs that PyTorch may take, the most likely layouts first.

    Args:
        inputs: Inputs of the JAX network, or the inputs that were given for PyTorch.
        layout: "channels_first", "same" or "sequence_first" for all arrays of more than two axes.
            None tries all three for each array, but "sequence_first" only with three axes.
        has_sequences: True if the PyTorch module has layers for sequences with channels first, such
            as `Conv1d`.

    Yields:
        A description of the layouts, and the inputs.

    Raises:
        ValueError: If `layout` is unknown.
    """
    leaves, structure = jax.tree.flatten(tuple(inputs))
    places = [i for i, x in enumerate(leaves) if is_array(x) and x.ndim > 2]
    if layout is not None:
        look_up(_LAYOUTS, "layout", layout)
    options = []
    for place in places:
        # Three axes are tokens (batch, length, channels) more often than sequences for Conv1d.
        is_image = leaves[place].ndim > 3 or has_sequences
        likely: tuple[str, ...] = ("same", "channels_first")
        likely = likely[::-1] if is_image else likely
        likely += ("sequence_first",) if leaves[place].ndim == 3 else ()
        options.append(likely if layout is None else (layout,))
    # With many arrays, arrays with the same number of axes share a layout.
    shares = len(places) > _MAX_ARRAYS
    for chosen in itertools.product(*options):
        axes = {(leaves[place].ndim, name) for place, name in zip(places, chosen, strict=True)}
        if shares and len(axes) > len({number for number, _ in axes}):
            continue
        candidate = list(leaves)
        for place, name in zip(places, chosen, strict=True):
            candidate[place] = _LAYOUTS[name](leaves[place])
        shapes = ", ".join(str(x.shape) for x in candidate if is_array(x))
        yield shapes, Inputs(*jax.tree.unflatten(structure, candidate))
