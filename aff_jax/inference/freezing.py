"""From a network and its variables to a frozen one: evaluation alone, batch norms folded away."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from flax.typing import Dtype

from aff_jax.differences import list_differences
from aff_jax.inference.folding import NORMS, apply_folded, find_foldings, fold
from aff_jax.inference.frozen import Frozen
from aff_jax.inspection import example_images, image_channels, inspect_module

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
    """A network for evaluation alone: the same outputs from a smaller and faster program.

    Batch norms go into the dense layer or convolution in front of them, where nothing else reads
    it, and elsewhere become one scale and one shift; what evaluation does not read is dropped. For
    any linen module with `aff_jax.BatchNorm` or `flax.linen.BatchNorm`, called as `(*inputs)`.

    - `example_inputs`, arrays or `jax.ShapeDtypeStruct`s, are what `model` is called with, and only
      their shapes and dtypes count; a network of `create_model` needs none. Flags among them, as
      the False of a model whose `train` is True unless said otherwise, are fixed here, and left
      out in calls.
    - `dtype` to compute in, as bfloat16: the model's `dtype` is set, and parameters are kept in it,
      but for layers that give a wider one, as the logits of the hosts. A model without such a field
      has its inputs and all parameters cast.
    - `donate` lets the result take the memory of the input that has its shape and dtype: that array
      is gone after the call.
    - `devices` share the batch evenly, each with all variables; inputs that are not yet spread over
      them are copied. On a CPU, one device a core (`jax.config.update("jax_num_cpu_devices", n)` at
      the start) uses the cores better than one device with as many threads.
    - `chunk_size` examples are evaluated at a time, on each device, so that what lies between the
      layers stays in the cache, or in memory. It pays on a CPU for arrays of more than 1 MB.

        >>> import aff_jax, jax
        >>> x, y = jax.random.normal(jax.random.key(0), (2, 4, 8, 8, 16))
        >>> aff = aff_jax.AFF()
        >>> frozen = freeze(aff, aff.init(jax.random.key(1), x, y), x, y)
        >>> frozen(x, y).shape, list(frozen.variables)
        ((4, 8, 8, 16), ['params'])

    Raises:
        ValueError: variables that are not the model's; no example inputs for a module that needs
            them; `donate` without an input that the result could replace; a `chunk_size` below 1;
            `devices` or `chunk_size` where an input or a result has no batch axis in front.
    """
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"expected a chunk_size of at least 1, got {chunk_size}.")
    own_dtype = dtype is not None and hasattr(model, "dtype")
    if own_dtype:
        model = model.clone(dtype=dtype)
    example_inputs = tuple(
        jnp.zeros(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else x
        for x in example_inputs
    )
    # Partitioned parameters come in boxes; here they are plain arrays.
    variables = nn.meta.unbox(variables)
    inputs: tuple[Any, ...] = example_inputs or example_images(model, image_channels(variables))
    expected = nn.meta.unbox(inspect_module(model, inputs).variables)
    _check_variables(model, expected, variables)
    # Flags such as `train` stay plain Python values, and are no arguments of what is frozen.
    flags = {i: x for i, x in enumerate(inputs) if x is None or isinstance(x, bool | str)}
    inputs = tuple(x for i, x in enumerate(inputs) if i not in flags)
    called: Any = _Flagged(model, flags) if flags else model
    known = {name: variables[name] for name in expected}
    foldings = find_foldings(called, known, inputs)

    def apply(variables: Mapping[str, Any], *inputs: Any) -> Any:
        if dtype is not None and not own_dtype:
            inputs = tuple(x.astype(dtype) for x in inputs)
        return apply_folded(
            called, foldings, variables, *inputs, dtype=None if own_dtype else dtype
        )

    folded = _drop_uncalled(apply, fold(known, foldings), inputs)
    if own_dtype:
        folded = _cast(folded, apply, inputs, jnp.dtype(dtype))
    elif dtype is not None:
        params = folded.get("params", {})
        folded["params"] = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    if devices is not None or chunk_size is not None:
        _check_batch(apply, folded, inputs)
    return Frozen(
        apply,
        folded,
        donate=_find_donated(apply, folded, inputs) if donate else None,
        devices=devices,
        chunk_size=chunk_size,
    )


class _Flagged:
    """A module whose calls have flags at some positions; all that is applied here."""

    def __init__(self, module: nn.Module, flags: Mapping[int, Any]) -> None:
        self.module, self.flags = module, flags

    def apply(self, variables: Mapping[str, Any], *inputs: Any) -> Any:
        """`module.apply` with the flags where they belong."""
        given = list(inputs)
        for position, flag in self.flags.items():
            given.insert(position, flag)
        return self.module.apply(variables, *given)


def _check_batch(
    apply: Callable[..., Any], variables: Mapping[str, Any], inputs: tuple[Any, ...]
) -> None:
    """Refuse what can't be computed from one part of the batch after the other."""
    results = jax.tree.leaves(jax.eval_shape(apply, variables, *inputs))
    shapes = [jnp.shape(x) for x in (*inputs, *results)]
    if len({shape[:1] for shape in shapes}) > 1 or not all(shapes):
        raise ValueError(
            f"devices and chunk_size: expected inputs and results with the batch as their first "
            f"axis, got shapes {shapes[: len(inputs)]} -> {shapes[len(inputs) :]}. Freeze the part "
            f"of the network that has it, or leave both out."
        )


def _check_variables(
    model: nn.Module, expected: Mapping[str, Any], variables: Mapping[str, Any]
) -> None:
    """Refuse variables that are not those of the model, listing all that differ."""

    def shapes(tree: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        kept = {name: tree.get(name, {}) for name in expected}
        leaves = traverse_util.flatten_dict(kept, sep="/")
        return {path: tuple(jnp.shape(leaf)) for path, leaf in leaves.items()}

    if wrong := list_differences(shapes(expected), shapes(variables)):
        listed = "\n".join(wrong)
        raise ValueError(
            f"expected the variables of this {type(model).__name__}, as its init or aff_jax.load "
            f"gives them; {len(wrong)} arrays differ. Probably they are another network's, or "
            f"'batch_stats' was left out.\n{listed}"
        )


def _drop_uncalled(
    apply: Callable[..., Any], variables: Mapping[str, Any], inputs: tuple[Any, ...]
) -> dict[str, Any]:
    """Variables without those of modules that `apply` does not enter."""
    entered: set[tuple[str, ...]] = set()

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        entered.add(tuple(context.module.path))
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(lambda *given: apply(*given), variables, *inputs)
    leaves = traverse_util.flatten_dict(dict(variables))
    return traverse_util.unflatten_dict(
        {path: leaf for path, leaf in leaves.items() if path[0] == NORMS or path[1:-1] in entered}
    )


def _cast(
    variables: Mapping[str, Any], apply: Callable[..., Any], inputs: tuple[Any, ...], dtype: Any
) -> dict[str, Any]:
    """Parameters in `dtype`, but for those of layers that give another one."""
    given: dict[tuple[str, ...], Any] = {}

    def note(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        result = call(*args, **kwargs)
        given[tuple(context.module.path)] = getattr(result, "dtype", None)
        return result

    with nn.intercept_methods(note):
        # A function of its own: what JAX has traced before it would not call again.
        jax.eval_shape(lambda *given: apply(*given), variables, *inputs)
    leaves = traverse_util.flatten_dict(dict(variables))
    for (collection, *path, name), leaf in leaves.items():
        if collection == "params" and given.get(tuple(path)) == dtype:
            leaves[(collection, *path, name)] = leaf.astype(dtype)
    return traverse_util.unflatten_dict(leaves)


def _find_donated(
    apply: Callable[..., Any], variables: Mapping[str, Any], inputs: tuple[Any, ...]
) -> int:
    """The position of an input that has the shape and dtype of the result."""
    result = jax.eval_shape(apply, variables, *inputs)
    for position, x in enumerate(inputs):
        if (jnp.shape(x), jnp.result_type(x)) == (
            getattr(result, "shape", None),
            getattr(result, "dtype", None),
        ):
            return position
    raise ValueError(
        f"donate: expected an input whose memory the result can take, got inputs "
        f"{[f'{jnp.result_type(x)}{list(jnp.shape(x))}' for x in inputs]} for a result of "
        f"{jax.tree.map(lambda x: f'{x.dtype}{list(x.shape)}', result)}. Probably a network that "
        f"gives logits, or inputs in another dtype than the one it computes in."
    )
