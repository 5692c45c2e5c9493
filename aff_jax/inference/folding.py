"""Batch norms of a frozen network, folded into the layers in front of them."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.ad_checkpoint import checkpoint_name

from aff_jax.nn.batch_norm import BatchNorm

__all__ = ["NORMS", "Folding", "apply_folded", "find_foldings", "fold"]

Path = tuple[str, ...]

LINEAR = (nn.Dense, nn.Conv)
"""Layers that are linear in their kernel, whose last axis is that of the channels."""

NORMS = "norms"
"""The collection of what is left of batch norms: "scale" and "shift", either of them or none."""

_AFTER, _BEFORE, _SOMETHING = "after layer ", "before norm ", "something else"


@dataclasses.dataclass(frozen=True)
class Folding:
    """What becomes of one batch norm: folded into `layer`, or where that is None, scale and shift.

    `epsilon` is the norm's; `layer_bias`, whether the layer has a bias that takes up the shift.
    """

    layer: Path | None
    epsilon: float
    layer_bias: bool = False


def find_foldings(
    module: nn.Module, variables: Mapping[str, Any], inputs: tuple[Any, ...]
) -> dict[Path, Folding]:
    """What becomes of each batch norm of `module`, by path.

    A norm is folded into a dense layer or a convolution if it reads what this layer gives and
    nobody else does, and if nobody else reads the layer's kernel and bias. Both are read from the
    traced computation, so it does not matter who wrote the module. A norm that uses the batch's
    statistics, or whose variables are stacked by a lifted transformation, is not listed: it stays
    what it is.
    """
    leaves = traverse_util.flatten_dict(dict(variables))
    found: dict[Path, nn.Module] = {}
    layers: dict[Path, nn.Module] = {}
    calls: Counter[Path] = Counter()

    def mark(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        layer, path = context.module, tuple(context.module.path)
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        if _is_linear(layer) and _is_whole(layer, "params", "kernel", path, leaves):
            layers[path] = layer
            calls[path] += 1
            return checkpoint_name(call(*args, **kwargs), _AFTER + "/".join(path))
        if _evaluates(layer, args, kwargs) and _is_whole(
            layer, "batch_stats", "mean", path, leaves
        ):
            found[path] = layer
            args = (checkpoint_name(args[0], _BEFORE + "/".join(path)), *args[1:])
        return call(*args, **kwargs)

    def apply(variables: Mapping[str, Any], *inputs: Any) -> Any:
        return module.apply(variables, *inputs)

    with nn.intercept_methods(mark):
        traced = jax.make_jaxpr(apply)(variables, *inputs)
    neighbours: dict[str, set[str]] = {}
    for edge in _edges(traced.jaxpr):
        for here, there in (edge, edge[::-1]):
            neighbours.setdefault(here, set()).add(there)

    paths = [
        tuple(key.key for key in path)
        for path, _ in jax.tree_util.tree_flatten_with_path(dict(variables))[0]
    ]
    arguments = dict(zip(paths, traced.jaxpr.invars, strict=False))

    def only_reader(path: Path) -> bool:
        """Whether nobody but the layer of that path reads its kernel and bias."""
        return all(
            sorted(_readers(traced.jaxpr, arguments[key])) == [reader] * calls[path]
            for name, reader in (("kernel", "product"), ("bias", "sum"))
            if (key := ("params", *path, name)) in arguments
        )

    foldings = {}
    for path, norm in found.items():
        before = _BEFORE + "/".join(path)
        after = next(iter(neighbours[before]))
        alone = neighbours[before] == {after} and neighbours[after] == {before}
        layer = tuple(after.removeprefix(_AFTER).split("/"))
        if alone and after.startswith(_AFTER) and only_reader(layer):
            foldings[path] = Folding(layer, norm.epsilon, layers[layer].use_bias)
        else:
            foldings[path] = Folding(None, norm.epsilon)
    return foldings


def fold(variables: Mapping[str, Any], foldings: Mapping[Path, Folding]) -> dict[str, Any]:
    """Variables without those batch norms: their arithmetic is in kernels, biases and `NORMS`.

        scale = gamma / sqrt(var + epsilon),  shift = beta - mean * scale
        kernel <- kernel * scale,             bias <- bias * scale + shift

    Computed in float64, kept in the dtype of each array.
    """
    leaves = dict(traverse_util.flatten_dict(dict(variables)))
    for path, folding in foldings.items():
        mean, var = (leaves.pop(("batch_stats", *path, name)) for name in ("mean", "var"))
        dtype = jnp.promote_types(mean.dtype, jnp.float32)
        mean, var = np.asarray(mean, np.float64), np.asarray(var, np.float64)
        gamma, beta = (leaves.pop(("params", *path, name), None) for name in ("scale", "bias"))
        scale = 1 / np.sqrt(var + folding.epsilon)
        if gamma is not None:
            scale = scale * np.asarray(gamma, np.float64)
        shift = -mean * scale
        if beta is not None:
            shift = shift + np.asarray(beta, np.float64)

        if folding.layer is None:
            leaves[(NORMS, *path, "scale")] = jnp.asarray(scale, dtype)
        else:
            _scale_last_axis(leaves, ("params", *folding.layer, "kernel"), scale)
        if folding.layer_bias:
            assert folding.layer is not None
            _scale_last_axis(leaves, ("params", *folding.layer, "bias"), scale, shift)
        else:
            leaves[(NORMS, *path, "shift")] = jnp.asarray(shift, dtype)
    return traverse_util.unflatten_dict(leaves)


def apply_folded(
    module: nn.Module,
    foldings: Mapping[Path, Folding],
    variables: Mapping[str, Any],
    *inputs: Any,
    dtype: Any = None,
) -> Any:
    """What `module` gives in evaluation, from the variables that `fold` made.

    `dtype` is that of what folded norms give, as far as they have no field that says it.
    """
    left = traverse_util.flatten_dict(dict(variables.get(NORMS, {})))

    def evaluate(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        norm, path = context.module, tuple(context.module.path)
        if context.method_name != "__call__" or path not in foldings:
            return call(*args, **kwargs)
        x = args[0]
        given = norm.dtype or dtype or _result_dtype(norm, x)
        if (*path, "scale") in left:
            x = x * left[(*path, "scale")]
        if (*path, "shift") in left:
            x = x + left[(*path, "shift")]
        return x.astype(given)

    with nn.intercept_methods(evaluate):
        kept = {name: tree for name, tree in variables.items() if name != NORMS}
        return module.apply(kept, *inputs)


def _result_dtype(norm: nn.Module, x: jax.Array) -> Any:
    """What the norm gives without a `dtype` of its own."""
    if type(norm) is nn.BatchNorm and not (norm.use_scale or norm.use_bias):
        return x.dtype  # Flax counts the parameters that there are
    return jnp.result_type(x.dtype, norm.param_dtype)


def _evaluates(norm: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether this is a batch norm of the last axis that is called to use running statistics."""
    if not args:
        return False
    if type(norm) is BatchNorm:
        return not (kwargs.get("train", args[1] if len(args) > 1 else False))
    if type(norm) is nn.BatchNorm:
        given = kwargs.get("use_running_average", args[1] if len(args) > 1 else None)
        running = norm.use_running_average if given is None else given
        return bool(running) and norm.axis in (-1, args[0].ndim - 1)
    return False


def _is_whole(
    layer: nn.Module, collection: str, name: str, path: Path, leaves: Mapping[Path, Any]
) -> bool:
    """Whether the layer sees its variable as it stands in the tree, not a slice of a stack."""
    leaf = leaves.get((collection, *path, name))
    return leaf is not None and layer.get_variable(collection, name).shape == leaf.shape


def _edges(jaxpr: Any) -> Iterator[tuple[str, str]]:
    """Pairs of what gave an array and what reads it, for all arrays that come or go to a mark."""
    readers: dict[int, list[str]] = {}
    marks: dict[int, str] = {}
    for eqn in jaxpr.eqns:
        for inner in jax.tree.leaves(list(eqn.params.values()), is_leaf=_is_jaxpr):
            if _is_jaxpr(inner):
                yield from _edges(getattr(inner, "jaxpr", inner))
        name = eqn.params["name"] if eqn.primitive.name == "name" else _SOMETHING
        for var in eqn.invars:
            readers.setdefault(id(var), []).append(name)
        if name.startswith(_BEFORE):
            yield marks.get(id(eqn.invars[0]), _SOMETHING), name
        if name.startswith(_AFTER):
            marks[id(eqn.outvars[0])] = name
    for var in jaxpr.outvars:
        readers.setdefault(id(var), []).append(_SOMETHING)
    for made, mark in marks.items():
        for reader in readers.get(made, []):
            yield mark, reader


def _is_linear(layer: nn.Module) -> bool:
    """Whether this is one of `LINEAR` that multiplies as JAX does."""
    replaced = (
        "dot_general",
        "dot_general_cls",
        "conv_general_dilated",
        "conv_general_dilated_cls",
    )
    return type(layer) in LINEAR and all(getattr(layer, name, None) is None for name in replaced)


_READERS = {
    "dot_general": "product",
    "conv_general_dilated": "product",
    "add": "sum",
    "reshape": "sum",
    "broadcast_in_dim": "sum",
}
"""What may read a kernel, and a bias, in a layer's own call."""


def _readers(jaxpr: Any, var: Any) -> Iterator[str]:
    """What reads an argument of `jaxpr`, in it and in what it calls."""
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
                yield _READERS.get(name, _SOMETHING)
    if any(read is var for read in jaxpr.outvars):
        yield _SOMETHING


def _is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def _scale_last_axis(
    leaves: dict[Path, Any], path: Path, scale: np.ndarray, shift: np.ndarray | float = 0.0
) -> None:
    leaf = leaves[path]
    leaves[path] = jnp.asarray(np.asarray(leaf, np.float64) * scale + shift, leaf.dtype)
