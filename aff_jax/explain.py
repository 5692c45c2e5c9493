"""Explanations of a network's output: the weights M of its fusions, and Grad-CAM maps."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from flax.typing import Dtype
from jaxtyping import Array, Bool, Float, Int

from aff_jax.attention.ms_cam import FUSION_WEIGHTS
from aff_jax.fusion.base import Fusion
from aff_jax.fusion.registry import create_fusion, list_fusions
from aff_jax.lookup import unknown_name
from aff_jax.nn.input_checks import check_model_and_variables, check_positional_train

__all__ = ["fusion_weights", "grad_cam"]


def fusion_weights(
    model: nn.Module, variables: Mapping[str, Any], *inputs: Any
) -> dict[str, tuple[Float[Array, "batch *spatial channels"], ...]]:
    """Compute the weights M of all fusions of a network in evaluation mode.

    In AFF, IAFF and SK they weight x, and the remainder weights y::

        AFF(x, y) = gain * (x * M + y * (1 - M))

    In Highway they weight y, and the remainder weights x. In SE they weight x only, and in GAU y
    only. The function returns all arrays that modules sow as `fusion_weights` in the collection
    `intermediates`, so it also finds the weights of your own modules.

    The function is pure. Compile it with `jax.jit(functools.partial(fusion_weights, model))`.

    Args:
        model: A network, or a single fusion.
        variables: Variables of `model`.
        *inputs: Inputs of `model`, called as `model.apply(variables, *inputs)`.

    Returns:
        By path of the fusion, such as `stage1_block0/fuse`, the weights of each iteration: M for
        AFF and MSCAM, and M_1 and M_2 for IAFF. The path of `model` itself is the empty string.
        Weights have the shape `(batch, *spatial, channels)` and are in (0, 1). Their spatial axes
        have size one if all scales of the attention are global.

    Raises:
        TypeError: If an argument has a wrong type, for example because two are swapped.
        ValueError: If no module in `model` sows weights.

    Examples:
        >>> import aff_jax, jax
        >>> x, y = jax.random.normal(jax.random.key(0), (2, 4, 8, 8, 16))
        >>> iaff = aff_jax.IAFF()
        >>> variables = iaff.init(jax.random.key(1), x, y)
        >>> {path: len(found) for path, found in fusion_weights(iaff, variables, x, y).items()}
        {'': 2}

    References:
        Dai et al., Attentional Feature Fusion, 2021, section 4.1, equation 4, and section 4.2,
        equation 5.
    """
    call = "fusion_weights(model, variables, *inputs)"
    check_model_and_variables(call, model, variables)
    check_positional_train(call, model, inputs)
    # Sowing appends: do not pass on the intermediates of an earlier call.
    variables = {name: tree for name, tree in variables.items() if name != "intermediates"}
    _, state = model.apply(variables, *inputs, mutable=["intermediates"])
    sown = traverse_util.flatten_dict(dict(state.get("intermediates", {})))
    weights = {
        "/".join(path[:-1]): value for path, value in sown.items() if path[-1] == FUSION_WEIGHTS
    }
    if not weights:
        without_attention = [
            repr(name) for name in list_fusions() if not hasattr(create_fusion(name), "scales")
        ]
        raise ValueError(
            f"expected a network with a fusion that has weights M, got {type(model).__name__}, in "
            f"which nothing sows {FUSION_WEIGHTS!r}. Probably its fusion is "
            f"{' or '.join(without_attention)}, which has no weights; or it is inside "
            f"flax.linen.scan or vmap, whose `variable_axes` must include 'intermediates'."
        )
    return weights


def grad_cam(
    model: nn.Module,
    variables: Mapping[str, Any],
    *inputs: Any,
    layer: str | None = None,
    classes: int | Int[Array, " batch"] | None = None,
    where: Bool[Array, " batch *positions"] | None = None,
) -> Float[Array, " batch *spatial"]:
    """Compute Grad-CAM maps, which show where an image supports a class.

    For class c, the map of a layer with output A, `(batch, *spatial, channels)`, is::

        alpha_k = mean over positions i of  d y_c / d A_ik
        L_c     = ReLU(sum over k of alpha_k A_k)

    y_c is the logit of class c. If the network has logits for each position,
    `(batch, *positions, classes)`, y_c is their sum over all positions, or over those in `where`.

    The network runs in evaluation mode. It can be any linen module without `flax.linen.jit`.

    The function is pure. Compile it with `jax.jit(functools.partial(grad_cam, model, layer=...))`.
    If `classes` is traced, its values cannot be checked: the map of an unknown class is NaN.

    Args:
        model: A network that returns logits.
        variables: Variables of `model`.
        *inputs: Inputs of `model`, called as `model.apply(variables, *inputs)`.
        layer: Path of a submodule, such as `stage3_block0/fuse`. Default: the last fusion.
        classes: One class for the whole batch, or one per example. Default: the predicted class of
            each example. Required if the network has logits for each position.
        where: Positions whose logits are summed. Default: all.

    Returns:
        Maps `(batch, *spatial)` with the spatial shape of the layer's output, not normalized and at
        least float32. To overlay one on an image, divide it by its maximum and resize it with
        `jax.image.resize`.

    Raises:
        TypeError: If an argument has a wrong type, such as a class among the inputs.
        ValueError: If `layer` is not a submodule with a spatial output, or is called more than
            once; if there is no fusion to use by default; if the output of `model` is not an array
            of logits; if `classes` or `where` have the wrong shape, dtype or range.

    References:
        Selvaraju et al., Grad-CAM, 2017, equations 1 and 2. Sum over positions: Vinogradova et al.,
        Towards Interpretable Semantic Segmentation via Gradient-weighted Class Activation Mapping,
        2020.
    """
    call = "grad_cam(model, variables, *inputs, classes=...)"
    check_model_and_variables(call, model, variables)
    check_positional_train(call, model, inputs)
    calls, logits = _trace_calls(model, variables, inputs)
    chosen = _choose_call(model, calls, layer)
    _check_logits(model, logits)
    batch, num_classes = logits.shape[0], logits.shape[-1]
    if classes is not None:
        classes = _check_classes(classes, batch, num_classes)
    elif logits.ndim > 2:
        raise ValueError(
            f"expected `classes`, got none: {type(model).__name__} has logits for each position, "
            f"{logits.shape}, whose predicted classes may differ. Pass one class of "
            f"0 to {num_classes - 1}, or one per example."
        )
    if where is not None and jnp.shape(where) != logits.shape[:-1]:
        raise ValueError(
            f"expected `where` with one value per logit position, {logits.shape[:-1]}, got "
            f"{jnp.shape(where)}."
        )

    def score(shift: Array) -> tuple[Array, Array]:
        logits, activations = _apply_shifted(model, variables, inputs, chosen.path, shift)
        # Half precision has too few digits to sum thousands of positions.
        logits = logits.astype(_at_least_float32(logits.dtype))
        target = jnp.argmax(logits, axis=-1) if classes is None else classes
        scores = jnp.sum(logits * _one_hot(target, logits), axis=-1)
        if where is not None:
            scores = jnp.where(where, scores, 0)
        # Examples are independent in evaluation mode, so one sum has the gradients of all.
        return jnp.sum(scores), activations

    # The gradient by a shift of A equals the gradient by A, and A need not be an argument.
    shift = jnp.zeros(chosen.shape, chosen.dtype)
    gradients, activations = jax.grad(score, has_aux=True)(shift)
    gradients, activations = (
        x.astype(_at_least_float32(x.dtype)) for x in (gradients, activations)
    )
    alpha = jnp.mean(gradients, axis=tuple(range(1, gradients.ndim - 1)), keepdims=True)
    maps = nn.relu(jnp.sum(alpha * activations, axis=-1))
    if classes is None:
        return maps
    exists = (classes >= 0) & (classes < num_classes)
    return jnp.where(exists.reshape(-1, *[1] * (maps.ndim - 1)), maps, jnp.nan)


class _Call(NamedTuple):
    """A call of a submodule with a spatial output."""

    path: str
    is_fusion: bool
    shape: tuple[int, ...]
    dtype: Dtype


def _trace_calls(
    model: nn.Module, variables: Mapping[str, Any], inputs: Sequence[Any]
) -> tuple[list[_Call], Any]:
    """Return the calls with a spatial output, in the order they end, and the output's shape."""
    calls: list[_Call] = []

    def record_call(
        call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        output = call(*args, **kwargs)
        path = _path_of(context)
        if path and getattr(output, "ndim", 0) > 2 and jnp.issubdtype(output.dtype, jnp.floating):
            is_fusion = isinstance(context.module, Fusion)
            calls.append(_Call(path, is_fusion, output.shape, output.dtype))
        return output

    def run(variables: Mapping[str, Any]) -> Any:
        with nn.intercept_methods(record_call):
            return model.apply(variables, *inputs)

    return calls, jax.eval_shape(run, variables)


def _apply_shifted(
    model: nn.Module, variables: Mapping[str, Any], inputs: Sequence[Any], path: str, shift: Array
) -> tuple[Array, Array]:
    """Add `shift` to the output of one submodule; return the network's output and that sum."""

    def add_shift(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output = call(*args, **kwargs)
        if _path_of(context) != path:
            return output
        shifted = output + shift
        # Sow it: `nn.remat` traces the call separately, so its tracers must not leave it otherwise.
        context.module.sow("intermediates", "shifted", shifted)
        return shifted

    with nn.intercept_methods(add_shift):
        logits, state = model.apply(variables, *inputs, mutable=["intermediates"])
    sown = traverse_util.flatten_dict(dict(state["intermediates"]), sep="/")
    (activations,) = sown[f"{path}/shifted"]
    return logits, activations


def _path_of(context: nn.module.InterceptorContext) -> str:
    """Return the path of the called submodule, or "" for the model itself and other methods."""
    return "/".join(context.module.path) if context.method_name == "__call__" else ""


def _choose_call(model: nn.Module, calls: Sequence[_Call], layer: str | None) -> _Call:
    """Return the only call of that layer, or of the last fusion."""
    paths = [call.path for call in calls]
    if layer is None:
        fusions = [call.path for call in calls if call.is_fusion]
        if not fusions:
            raise ValueError(
                f"expected `layer`, got none: {type(model).__name__} has no fusion to use by "
                f"default. Pass the path of a layer, usually the last one before the pooling. "
                f"Known: {', '.join(dict.fromkeys(paths)) or 'none'}."
            )
        layer = fusions[-1]
    if layer not in paths:
        raise ValueError(unknown_name("layer with a spatial output:", layer, set(paths)))
    if paths.count(layer) > 1:
        raise ValueError(
            f"expected a layer that is called once, got {layer!r}, which is called "
            f"{paths.count(layer)} times and has as many maps. Choose a module that contains one "
            f"of its calls. "
            f"Known: {', '.join(path for path in paths if paths.count(path) == 1) or 'none'}."
        )
    return calls[paths.index(layer)]


def _check_logits(model: nn.Module, logits: Any) -> None:
    """Raise ValueError if the output of the model is not an array of logits."""
    if getattr(logits, "ndim", 0) < 2:
        got = f"the shape {logits.shape}" if hasattr(logits, "shape") else type(logits).__name__
        raise ValueError(
            f"expected logits of shape (batch, classes) or (batch, *positions, classes) from "
            f"{type(model).__name__}, got {got}. Probably it is a backbone: build it with "
            f"features_only=False, or wrap it in a module that returns one array of logits."
        )


def _check_classes(classes: Any, batch: int, num_classes: int) -> Array:
    """Return the classes as an array, after checks of shape, dtype and range."""
    classes = jnp.asarray(classes)
    if not jnp.issubdtype(classes.dtype, jnp.integer) or classes.shape not in ((), (batch,)):
        raise ValueError(
            f"expected `classes` to be one integer or one for each of {batch} examples, got "
            f"{classes.dtype} of shape {classes.shape}."
        )
    is_traced = isinstance(classes, jax.core.Tracer)
    if not is_traced and bool(jnp.any((classes < 0) | (classes >= num_classes))):
        raise ValueError(f"expected classes of 0 to {num_classes - 1}, got {classes.tolist()}.")
    return classes


def _one_hot(classes: Array, logits: Array) -> Array:
    """Return one-hot vectors that broadcast against the logits."""
    hot = jax.nn.one_hot(classes, logits.shape[-1], dtype=logits.dtype)
    return hot.reshape(*hot.shape[:-1], *[1] * (logits.ndim - hot.ndim), hot.shape[-1])


def _at_least_float32(dtype: Dtype) -> Any:
    return jnp.promote_types(dtype, jnp.float32)
