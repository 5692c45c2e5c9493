"""StableHLO files, which run a network with JAX and without this library."""

from collections.abc import Sequence
from os import PathLike
from typing import Any

import flax.linen as nn
import jax
from jax import export

from aff_jax.files.atomic_write import atomic_file
from aff_jax.inference.freezing import freeze
from aff_jax.lookup import look_up

__all__ = ["PLATFORMS", "save_stablehlo"]

PLATFORMS = {name: name for name in ("cpu", "cuda", "rocm", "tpu")}
"""Platforms of a StableHLO program, by the names of `jax.export`."""


def save_stablehlo(
    path: str | PathLike[str],
    model: nn.Module,
    variables: Any,
    *example_inputs: Any,
    symbolic_batch: bool = True,
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
    overwrite: bool = False,
) -> export.Exported:
    """Write `model` in evaluation mode and its weights to a StableHLO file.

    The file needs only `jax` and `flatbuffers` to run::

        run = jax.export.deserialize(open(path, "rb").read()).call
        run(*inputs)  # as model.apply(variables, *inputs)

    The weights are constants of the program, frozen by `aff_jax.inference.freeze`, so the file is
    about as large as they are. It follows the compatibility guarantees of `jax.export`: later
    versions of JAX read it for at least six months, and earlier ones for three weeks.

    Args:
        path: File to write.
        model: The module.
        variables: Variables of `model`.
        *example_inputs: Arrays or `jax.ShapeDtypeStruct` objects with the shapes and dtypes of the
            inputs.
        symbolic_batch: Allow any size of the first axis, the same for all inputs. Otherwise its
            size is fixed, as the sizes of the other axes are.
        platforms: Platforms that the file runs on, names in `PLATFORMS`.
        overwrite: Replace an existing file.

    Returns:
        The program, whose method `call` runs it.

    Raises:
        ValueError: If a platform is unknown, if there are no example inputs, or if the variables
            do not match the model.
        FileExistsError: If `path` exists and `overwrite` is False.
        ImportError: If `flatbuffers`, which serializes the program, is not installed.
    """
    if isinstance(platforms, str) or not platforms:
        raise ValueError(f"expected a list of at least one platform, got {platforms!r}.")
    names = [look_up(PLATFORMS, "platform", platform) for platform in platforms]
    if not example_inputs:
        raise ValueError(
            f"expected example inputs for {type(model).__name__}, got none. A StableHLO program "
            f"has fixed shapes: pass the inputs of the model, such as "
            f"`jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)`."
        )
    shapes = _input_shapes(example_inputs, symbolic_batch)
    frozen = freeze(model, variables, *example_inputs)
    evaluate = jax.jit(lambda *x: frozen.apply(frozen.variables, *x))
    program = export.export(evaluate, platforms=names)(*shapes)
    content = _serialize(program)
    with atomic_file(path, overwrite) as partial:
        partial.write_bytes(content)
    return program


def _input_shapes(inputs: Sequence[Any], symbolic_batch: bool) -> list[jax.ShapeDtypeStruct]:
    """Return the inputs' shapes and dtypes, with a shared symbolic batch size if wanted."""
    scope = export.SymbolicScope()
    (batch,) = export.symbolic_shape("batch", scope=scope)
    shapes = []
    for x in inputs:
        if symbolic_batch and not x.shape:
            raise ValueError(
                f"expected inputs with a batch axis, got {x}. Pass symbolic_batch=False to fix "
                f"all shapes."
            )
        shape = (batch, *x.shape[1:]) if symbolic_batch else x.shape
        shapes.append(jax.ShapeDtypeStruct(shape, x.dtype))
    return shapes


def _serialize(program: export.Exported) -> bytes:
    """Return the content of the file."""
    try:
        return bytes(program.serialize())
    except ImportError as error:
        raise ImportError(
            "expected the package flatbuffers, which jax.export needs to serialize a program: "
            "pip install flatbuffers, or install the extra 'export'."
        ) from error
