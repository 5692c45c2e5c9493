"""Run NNX modules and record what their submodules return."""

import contextlib
import functools
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from flax import traverse_util

from aff_jax.inspection import Structure
from aff_jax.parity.recording.inputs import list_runs
from aff_jax.parity.recording.recorder import Call, Inputs, Recorder, record

__all__ = ["copy_nnx", "inspect_nnx", "is_nnx", "record_nnx", "state_of_nnx", "submodules_of_nnx"]

_PATH = "_aff_jax_path"
"""Attribute of each submodule of a copy with its path. Transformations such as `nnx.remat` make new
modules, and keep the attributes."""


def is_nnx(module: Any) -> bool:
    """Return whether a value is an NNX module.

    Args:
        module: Any value.

    Returns:
        True for instances of `nnx.Module`.
    """
    # Importing `flax.nnx` is slow. If it was not imported yet, this is not an NNX module.
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(module, nnx.Module)


def state_of_nnx(module: Any) -> dict[str, Any]:
    """Return the variables of an NNX module.

    Args:
        module: The module.

    Returns:
        A dict with the key "nnx", whose value is the state as nested dicts of arrays.
    """
    from flax import nnx

    return {"nnx": nnx.to_pure_dict(nnx.state(module))}


def copy_nnx(module: Any, variables: Mapping[str, Any]) -> Any:
    """Copy an NNX module.

    Args:
        module: The module.
        variables: Variables of the copy, as `state_of_nnx` returns them.

    Returns:
        The copy, in evaluation mode.
    """
    from flax import nnx

    graph, state = nnx.split(module)
    nnx.replace_by_pure_dict(state, variables["nnx"])
    copied = nnx.merge(graph, state)
    copied.eval()
    return copied


def submodules_of_nnx(module: Any) -> dict[tuple[Any, ...], Any]:
    """Return the submodules of an NNX module.

    Args:
        module: The module.

    Returns:
        Submodules by path. The empty path is the module itself.
    """
    from flax import nnx

    return {tuple(path): submodule for path, submodule in nnx.iter_modules(module)}


def inspect_nnx(module: Any) -> Structure:
    """Return the parameters of an NNX module as a structure without layers.

    The names of PyTorch follow from a structure without layers by joining paths with dots.

    Args:
        module: The module.

    Returns:
        The structure.
    """
    from flax import nnx

    flat = traverse_util.flatten_dict(nnx.to_pure_dict(nnx.state(module, nnx.Param)))
    named = {tuple(map(str, path)): leaf for path, leaf in flat.items()}
    return Structure({}, {"params": traverse_util.unflatten_dict(named)})


def record_nnx(
    module: Any,
    variables: Mapping[str, Any],
    inputs: Inputs,
    inputs_of: Collection[str] = (),
    perturbed: Sequence[bool] = (False,),
) -> list[list[Call]]:
    """Run an NNX module in evaluation mode and record the outputs of all submodules.

    Args:
        module: The module. A copy of it runs, and it is not changed.
        variables: Its variables, as `state_of_nnx` returns them.
        inputs: Its inputs.
        inputs_of: Paths of the submodules whose inputs are recorded too.
        perturbed: For each run, whether the variables and inputs are changed by one unit in the
            last place.

    Returns:
        For each run, the calls in the order in which they end. The last is the call of `module`.
        Paths have the names of attributes and the positions in lists. A submodule with several
        paths has the first of them.
    """
    from flax import nnx

    copied = copy_nnx(module, variables)
    kinds = set()
    for path, submodule in submodules_of_nnx(copied).items():
        setattr(submodule, _PATH, "/".join(map(str, path)))
        kinds.add(type(submodule))
    graph, state = nnx.split(copied)
    recorder = Recorder(inputs_of)

    def program(state: Any, *args: Any, **kwargs: Any) -> None:
        nnx.merge(graph, state)(*args, **kwargs)

    with _wrapped(kinds, recorder):
        return record(program, list_runs(state, inputs, perturbed), recorder)


@contextlib.contextmanager
def _wrapped(kinds: Collection[type], recorder: Recorder) -> Iterator[None]:
    """Record the calls of modules of some classes that have a path."""
    running: set[int] = set()

    def wrap(call: Any) -> Any:
        @functools.wraps(call)
        def recorded(module: Any, *args: Any, **kwargs: Any) -> Any:
            # A class may call the method of its base class.
            if not hasattr(module, _PATH) or id(module) in running:
                return call(module, *args, **kwargs)
            running.add(id(module))
            try:
                output = call(module, *args, **kwargs)
            finally:
                running.discard(id(module))
            recorder.note(getattr(module, _PATH), output, (args, kwargs))
            return output

        return recorded

    # The methods of base classes are found before any of them is wrapped.
    calls = {kind: kind.__call__ for kind in kinds if hasattr(kind, "__call__")}  # noqa: B004
    own = {kind: "__call__" in vars(kind) for kind in calls}
    try:
        for kind, call in calls.items():
            kind.__call__ = wrap(call)  # type: ignore[method-assign]
        yield
    finally:
        for kind, call in calls.items():
            if own[kind]:
                kind.__call__ = call  # type: ignore[method-assign]
            elif "__call__" in vars(kind):
                del kind.__call__
