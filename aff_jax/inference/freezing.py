"""Freeze a network: fold its batch norms and compile it for evaluation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from flax.typing import Dtype

from aff_jax.inference.find_foldings import find_foldings
from aff_jax.inference.folding import NORMS, apply_folded, fold
from aff_jax.inference.freeze_checks import check_batch_axes, check_variables, find_donated_input
from aff_jax.inference.frozen import Frozen
from aff_jax.inspection import example_images, image_channels, inspect_module
from aff_jax.nn.input_checks import check_model_and_variables

__all__ = ["freeze"]


def freeze(
    model: nn.Module,
    variables: Mapping[str, Any],
    *example_inputs: Any,
    dtype: Dtype | None = None,
    donate: bool = False,
    devices: Sequence[jax.Device] | None = None,
    chunk_size: int | None = None,
) -> Frozen:
    """Fold the batch norms of a network and compile it for evaluation.

    The frozen network has the same outputs, up to rounding, and is smaller and faster. A batch norm
    is folded into the dense or convolution layer before it, if nothing else reads that layer. Other
    batch norms become a factor and a shift. Variables that evaluation does not read are dropped.

    Args:
        model: Any linen module that is called as `model(*inputs)`, with `aff_jax.BatchNorm` or
            `flax.linen.BatchNorm`.
        variables: Variables of `model`.
        *example_inputs: Arrays or `jax.ShapeDtypeStruct` objects with the shapes and dtypes that
            `model` is called with. Networks of `create_model` need none. Flags among them (bool,
            str or None) are fixed, and calls of the frozen network omit them: pass False for a
            module whose `train` is True by default.
        dtype: Dtype of the computation, such as bfloat16. Sets the field `dtype` of the model and
            casts the parameters, except in layers with an output in a wider dtype, such as the
            logits of the hosts. For a model without that field, casts inputs and all parameters.
        donate: Donate the first input with the shape and dtype of the result. The result reuses its
            memory, and the call deletes the array.
        devices: Devices that share the batch evenly. Each has all variables. Inputs with another
            sharding are copied. On a CPU, one device per core uses the cores better than one device
            with as many threads: call `jax.config.update("jax_num_cpu_devices", n)` at startup.
        chunk_size: Number of examples that each device evaluates at a time, so that activations
            stay in the cache or fit in memory. On a CPU, it is faster for arrays of more than 1 MB.

    Returns:
        The frozen network, which is called as `frozen(*inputs)`.

    Raises:
        TypeError: If an argument has a wrong type, for example because two are swapped.
        DifferentArraysError: If the variables do not match the model.
        ValueError: If a module that needs example
            inputs has none; if `donate` finds no input of the shape and dtype of the result; if
            `chunk_size` is below 1; if `devices` or `chunk_size` are given and an input or a result
            has no leading batch axis.

    Examples:
        >>> import aff_jax, jax
        >>> x, y = jax.random.normal(jax.random.key(0), (2, 4, 8, 8, 16))
        >>> aff = aff_jax.AFF()
        >>> frozen = freeze(aff, aff.init(jax.random.key(1), x, y), x, y)
        >>> frozen(x, y).shape, list(frozen.variables)
        ((4, 8, 8, 16), ['params'])
    """
    check_model_and_variables("freeze(model, variables, *example_inputs)", model, variables)
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"expected a chunk_size of at least 1, got {chunk_size}.")
    has_dtype = dtype is not None and hasattr(model, "dtype")
    if has_dtype:
        model = model.clone(dtype=dtype)

    variables = nn.meta.unbox(variables)  # Partitioned parameters are boxed.
    inputs = _zeros_for_structs(example_inputs) or example_images(model, image_channels(variables))
    expected = nn.meta.unbox(inspect_module(model, inputs).variables)
    check_variables(model, expected, variables)
    variables = {collection: variables[collection] for collection in expected}

    evaluate, inputs = _fix_flags(model, inputs)
    foldings = find_foldings(evaluate, variables, inputs)
    folded = fold(variables, foldings)

    def apply(variables: Mapping[str, Any], *inputs: Any) -> Any:
        if dtype is not None and not has_dtype:
            inputs = tuple(x.astype(dtype) for x in inputs)
        norm_dtype = None if has_dtype else dtype
        return apply_folded(evaluate, foldings, variables, *inputs, dtype=norm_dtype)

    folded = _drop_unused(folded, apply, inputs)
    if has_dtype:
        folded = _cast_by_layer(folded, apply, inputs, jnp.dtype(dtype))
    elif dtype is not None:
        params = folded.get("params", {})
        folded["params"] = jax.tree.map(lambda leaf: leaf.astype(dtype), params)

    if devices is not None or chunk_size is not None:
        check_batch_axes(apply, folded, inputs)
    return Frozen(
        apply,
        folded,
        donated_position=find_donated_input(apply, folded, inputs) if donate else None,
        devices=devices,
        chunk_size=chunk_size,
    )


def _zeros_for_structs(inputs: Sequence[Any]) -> tuple[Any, ...]:
    """Return the inputs with zeros in place of each `jax.ShapeDtypeStruct`."""
    return tuple(
        jnp.zeros(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else x for x in inputs
    )


def _fix_flags(
    model: nn.Module, inputs: tuple[Any, ...]
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return `model.apply` as a function of arrays only, with its flags fixed, and the arrays.

    Flags such as `train` must remain Python values, since a module branches on them. They are
    therefore not arguments of the frozen function, whose arguments are traced.
    """
    flags = {i: x for i, x in enumerate(inputs) if x is None or isinstance(x, bool | str)}
    arrays = tuple(x for i, x in enumerate(inputs) if i not in flags)

    def evaluate(variables: Mapping[str, Any], *arrays: Any) -> Any:
        arguments = list(arrays)
        for position, flag in flags.items():
            arguments.insert(position, flag)
        return model.apply(variables, *arguments)

    return evaluate, arrays


def _drop_unused(
    variables: Mapping[str, Any], apply: Callable[..., Any], inputs: tuple[Any, ...]
) -> dict[str, Any]:
    """Drop variables of modules that `apply` does not call."""
    called: set[tuple[str, ...]] = set()

    def record_call(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        called.add(tuple(context.module.path))
        return call(*args, **kwargs)

    with nn.intercept_methods(record_call):
        jax.eval_shape(_uncached(apply), variables, *inputs)
    leaves = traverse_util.flatten_dict(dict(variables))
    return traverse_util.unflatten_dict(
        {path: leaf for path, leaf in leaves.items() if path[0] == NORMS or path[1:-1] in called}
    )


def _cast_by_layer(
    variables: Mapping[str, Any], apply: Callable[..., Any], inputs: tuple[Any, ...], dtype: Any
) -> dict[str, Any]:
    """Cast the parameters of modules whose output has that dtype."""
    output_dtypes: dict[tuple[str, ...], Any] = {}

    def record_dtype(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        result = call(*args, **kwargs)
        output_dtypes[tuple(context.module.path)] = getattr(result, "dtype", None)
        return result

    with nn.intercept_methods(record_dtype):
        jax.eval_shape(_uncached(apply), variables, *inputs)
    leaves = traverse_util.flatten_dict(dict(variables))
    for (collection, *path, name), leaf in leaves.items():
        if collection == "params" and output_dtypes.get(tuple(path)) == dtype:
            leaves[(collection, *path, name)] = leaf.astype(dtype)
    return traverse_util.unflatten_dict(leaves)


def _uncached(apply: Callable[..., Any]) -> Callable[..., Any]:
    """Return a new function, since JAX does not call one again that it has traced before."""
    return lambda *arguments: apply(*arguments)
