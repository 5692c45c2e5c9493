"""A network as one StableHLO file, which runs wherever JAX does, without this library."""

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
"""What a file can be made for, by JAX's names."""


def save_stablehlo(
    path: str | PathLike[str],
    model: nn.Module,
    variables: Any,
    *example_inputs: Any,
    symbolic_batch: bool = True,
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
    overwrite: bool = False,
) -> export.Exported:
    """Write what `model` computes in evaluation, weights included, into one file.

        run = jax.export.deserialize(open(path, "rb").read()).call
        run(*inputs) = model.apply(variables, *inputs)

    Nothing but `jax` and `flatbuffers` is needed to run it. `example_inputs`, arrays or
    `jax.ShapeDtypeStruct`s, fix shapes and dtypes, but for the first axis with `symbolic_batch`:
    the file then takes any batch size, one for all inputs. One file serves all `platforms`.

    Weights are constants of the program, frozen by `aff_jax.inference.freeze`, so the file is about
    as large as they are.

    Returns what was written, to be called at once.

    Raises:
        ValueError: an unknown platform, no example inputs, or variables that are not the model's.
        FileExistsError: `path` exists, and not `overwrite`.
        ImportError: `flatbuffers`, in which the file is written, is missing.

    Source: `jax.export`, whose compatibility guarantees hold: a file can be read for at least six
    months by later versions of JAX, and three weeks by earlier ones.
    """
    if isinstance(platforms, str) or not platforms:
        raise ValueError(f"expected a list of at least one platform, got {platforms!r}.")
    names = [look_up(PLATFORMS, "platform", platform) for platform in platforms]
    if not example_inputs:
        raise ValueError(
            f"expected example inputs for {type(model).__name__}, got none: shapes are part of the "
            f"file. Give what it is called with, as in `jax.ShapeDtypeStruct((1, 224, 224, 3), "
            f"jnp.float32)`."
        )
    shapes = _input_shapes(example_inputs, symbolic_batch)
    frozen = freeze(model, variables, *example_inputs)
    evaluate = jax.jit(lambda *x: frozen.apply(frozen.variables, *x))
    exported = export.export(evaluate, platforms=names)(*shapes)
    content = _serialize(exported)
    with atomic_file(path, overwrite) as partial:
        partial.write_bytes(content)
    return exported


def _input_shapes(inputs: Sequence[Any], symbolic_batch: bool) -> list[jax.ShapeDtypeStruct]:
    scope = export.SymbolicScope()
    (batch,) = export.symbolic_shape("batch", scope=scope)
    shapes = []
    for x in inputs:
        if symbolic_batch and not x.shape:
            raise ValueError(
                f"expected inputs with a batch axis, got {x}. Give symbolic_batch=False to fix "
                f"all shapes."
            )
        shape = (batch, *x.shape[1:]) if symbolic_batch else x.shape
        shapes.append(jax.ShapeDtypeStruct(shape, x.dtype))
    return shapes


def _serialize(exported: export.Exported) -> bytes:
    try:
        return bytes(exported.serialize())
    except ImportError as error:
        raise ImportError(
            "expected the package flatbuffers, in which jax.export writes its files: "
            "pip install flatbuffers, or the extra 'export'."
        ) from error
