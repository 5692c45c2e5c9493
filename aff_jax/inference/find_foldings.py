"""Find the batch norms of a module that can be folded into the layer before them.

The search traces the module once. While it traces, it marks the output of each linear layer and the
input of each batch norm with `checkpoint_name`, an identity that appears in the jaxpr under a name.
A norm can be folded if the jaxpr connects a layer's mark and the norm's mark and nothing else.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
from flax import traverse_util
from jax.ad_checkpoint import checkpoint_name

from aff_jax.inference.folding import Folding
from aff_jax.inspection import ModulePath
from aff_jax.nn.batch_norm import BatchNorm

__all__ = ["LINEAR_LAYERS", "find_foldings"]

LINEAR_LAYERS = (nn.Dense, nn.Conv)
"""Layers that are linear in their kernel and have output channels on its last axis."""

_LAYER, _NORM, _OTHER = "after layer ", "before norm ", "other"
"""Names of the marks in the jaxpr, before the path of a layer or norm.

`_OTHER` stands for every operation without a mark.
"""


def find_foldings(
    apply: Callable[..., Any], variables: Mapping[str, Any], inputs: tuple[Any, ...]
) -> dict[ModulePath, Folding]:
    """Find the layer that each batch norm of a module can be folded into.

    A norm is folded into a dense or convolution layer if

    - the norm reads the layer's output and nothing else,
    - nothing else reads the layer's output, and
    - nothing else reads the layer's kernel and bias.

    Other norms become a factor and a shift. A norm is not listed, and stays as it is, if it uses
    batch statistics or if a lifted transformation such as `nn.scan` stacks its variables.

    The search reads the jaxpr, so it works for any linen module.

    Args:
        apply: Function `(variables, *inputs)` such as the `apply` of a module. Its batch norms are
            `aff_jax.BatchNorm` or `flax.linen.BatchNorm`.
        variables: Variables of the module, arrays or `jax.ShapeDtypeStruct` objects.
        inputs: Example inputs; only shapes and dtypes matter.

    Returns:
        Foldings by path of the norm.
    """
    leaves = traverse_util.flatten_dict(dict(variables))
    norms: dict[ModulePath, nn.Module] = {}
    layers: dict[ModulePath, nn.Module] = {}
    layer_calls: Counter[ModulePath] = Counter()

    def mark(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        layer, path = context.module, tuple(context.module.path)
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        if _is_linear(layer) and _is_unstacked(layer, "params", "kernel", path, leaves):
            layers[path] = layer
            layer_calls[path] += 1
            return checkpoint_name(call(*args, **kwargs), _LAYER + "/".join(path))
        if _uses_running_statistics(layer, args, kwargs) and _is_unstacked(
            layer, "batch_stats", "mean", path, leaves
        ):
            norms[path] = layer
            args = (checkpoint_name(args[0], _NORM + "/".join(path)), *args[1:])
        return call(*args, **kwargs)

    with nn.intercept_methods(mark):
        # A new function, since JAX does not call one again that it has traced before.
        traced = jax.make_jaxpr(lambda *arguments: apply(*arguments))(variables, *inputs)
    neighbors: dict[str, set[str]] = {}
    for writer, reader in _edges(traced.jaxpr):
        neighbors.setdefault(writer, set()).add(reader)
        neighbors.setdefault(reader, set()).add(writer)

    paths = [
        tuple(key.key for key in path)
        for path, _ in jax.tree_util.tree_flatten_with_path(dict(variables))[0]
    ]
    # The variables are the first arguments; the inputs follow.
    variable_of_path = dict(zip(paths, traced.jaxpr.invars, strict=False))

    def owns_parameters(layer_path: ModulePath) -> bool:
        """Return whether only the layer's own calls read its kernel and bias."""
        return all(
            sorted(_readers(traced.jaxpr, variable_of_path[key]))
            == [reader] * layer_calls[layer_path]
            for name, reader in (("kernel", "product"), ("bias", "sum"))
            if (key := ("params", *layer_path, name)) in variable_of_path
        )

    foldings = {}
    for path, norm in norms.items():
        norm_mark = _NORM + "/".join(path)
        writer = next(iter(neighbors[norm_mark]))
        is_pair = neighbors[norm_mark] == {writer} and neighbors[writer] == {norm_mark}
        layer_path = tuple(writer.removeprefix(_LAYER).split("/"))
        if is_pair and writer.startswith(_LAYER) and owns_parameters(layer_path):
            foldings[path] = Folding(layer_path, norm.epsilon, layers[layer_path].use_bias)
        else:
            foldings[path] = Folding(None, norm.epsilon)
    return foldings


def _is_linear(layer: nn.Module) -> bool:
    """Return whether this is one of `LINEAR_LAYERS` that multiplies by the default operation."""
    replaceable = (
        "dot_general",
        "dot_general_cls",
        "conv_general_dilated",
        "conv_general_dilated_cls",
    )
    return type(layer) in LINEAR_LAYERS and all(
        getattr(layer, name, None) is None for name in replaceable
    )


def _uses_running_statistics(
    norm: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> bool:
    """Return whether this is a call of a last-axis batch norm that uses running statistics."""
    if not args:
        return False
    if type(norm) is BatchNorm:
        return not (kwargs.get("train", args[1] if len(args) > 1 else False))
    if type(norm) is nn.BatchNorm:
        given = kwargs.get("use_running_average", args[1] if len(args) > 1 else None)
        running = norm.use_running_average if given is None else given
        return bool(running) and norm.axis in (-1, args[0].ndim - 1)
    return False


def _is_unstacked(
    layer: nn.Module, collection: str, name: str, path: ModulePath, leaves: Mapping[ModulePath, Any]
) -> bool:
    """Return whether the layer reads its whole variable, not a slice of a stacked one."""
    leaf = leaves.get((collection, *path, name))
    return leaf is not None and layer.get_variable(collection, name).shape == leaf.shape


def _edges(jaxpr: Any) -> Iterator[tuple[str, str]]:
    """Yield (writer, reader) for each array that a mark writes or reads, in all inner jaxprs."""
    readers: dict[int, list[str]] = {}
    marks: dict[int, str] = {}
    for eqn in jaxpr.eqns:
        for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                yield from _edges(getattr(inner, "jaxpr", inner))
        name = eqn.params["name"] if eqn.primitive.name == "name" else _OTHER
        for var in eqn.invars:
            readers.setdefault(id(var), []).append(name)
        if name.startswith(_NORM):
            yield marks.get(id(eqn.invars[0]), _OTHER), name
        if name.startswith(_LAYER):
            marks[id(eqn.outvars[0])] = name
    for var in jaxpr.outvars:
        readers.setdefault(id(var), []).append(_OTHER)
    for written, mark in marks.items():
        for reader in readers.get(written, []):
            yield mark, reader


_READERS = {
    "dot_general": "product",
    "conv_general_dilated": "product",
    "add": "sum",
    "reshape": "sum",
    "broadcast_in_dim": "sum",
}
"""Primitives by which a layer reads its kernel (product) and its bias (sum)."""


def _readers(jaxpr: Any, var: Any) -> Iterator[str]:
    """Yield the kind of each reader of an argument of `jaxpr`, in inner jaxprs too."""
    for eqn in jaxpr.eqns:
        for position, read in enumerate(eqn.invars):
            if read is not var:
                continue
            inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
            inner = getattr(inner, "jaxpr", inner)
            name = eqn.primitive.name
            if inner is not None and len(inner.invars) == len(eqn.invars):
                yield from _readers(inner, inner.invars[position])
            elif name == "convert_element_type":
                yield from _readers(jaxpr, eqn.outvars[0])
            else:
                yield _READERS.get(name, _OTHER)
    if any(read is var for read in jaxpr.outvars):
        yield _OTHER


def _is_jaxpr(value: Any) -> bool:
    """Return whether this parameter of an equation is an open or closed jaxpr."""
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")
