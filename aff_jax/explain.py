"""What a network looks at: the weights of its fusions, and class-activation maps."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from flax.typing import Dtype
from jaxtyping import Array, Bool, Float, Int

from aff_jax.fusion.base import Fusion
from aff_jax.lookup import unknown_name

__all__ = ["fusion_weights", "grad_cam"]

SOWN = "fusion_weights"


def fusion_weights(
    model: nn.Module, variables: Mapping[str, Any], *inputs: Any
) -> dict[str, tuple[Float[Array, "batch *spatial channels"], ...]]:
    """The weights M that the fusions of a network compute, by the fusion's path.

        AFF(x, y) = gain * (x * M + y * (1 - M))

    What M weighs is in each fusion's docstring: x and, by 1 - M, y in most of them; y in GAU.

    In evaluation mode: `model.apply(variables, *inputs)`. A path is that of the fusion among the
    submodules, as "stage1_block0/fuse", and "" for `model` itself. There is one array a pass: one
    for AFF and `MSCAM`, M_1 and M_2 for IAFF. They lie in (0, 1), and spatial axes are of size one
    where all scales are global.

    It is what modules sow as `fusion_weights` in `intermediates`, so modules of your own that sow
    under that name are found as well. Pure, and to be compiled as
    `jax.jit(functools.partial(fusion_weights, model))`.

        >>> import aff_jax, jax
        >>> x, y = jax.random.normal(jax.random.key(0), (2, 4, 8, 8, 16))
        >>> iaff = aff_jax.IAFF()
        >>> variables = iaff.init(jax.random.key(1), x, y)
        >>> {path: len(passes) for path, passes in fusion_weights(iaff, variables, x, y).items()}
        {'': 2}

    Raises:
        ValueError: nothing in `model` sows weights.

    Source: paper section 3.3, equation 3, and 3.4, equation 4.
    """
    # What an earlier call has left there would stand beside what this one sows.
    variables = {name: tree for name, tree in variables.items() if name != "intermediates"}
    _, state = model.apply(variables, *inputs, mutable=["intermediates"])
    sown = traverse_util.flatten_dict(dict(state.get("intermediates", {})))
    weights = {"/".join(path[:-1]): value for path, value in sown.items() if path[-1] == SOWN}
    if not weights:
        raise ValueError(
            f"expected a network whose fusions have weights, got {type(model).__name__}, in which "
            f"nothing sows {SOWN!r}. Probably its fusion is 'add' or 'concat', whose weights are "
            f"the same for all inputs; or it stands in a flax.linen.scan or vmap whose "
            f"`variable_axes` leave 'intermediates' out."
        )
    return weights


def grad_cam(
    model: nn.Module,
    variables: Mapping[str, Any],
    *inputs: Any,
    layer: str | None = None,
    classes: int | Int[Array, " batch"] | None = None,
    where: Bool[Array, "batch *positions"] | None = None,
) -> Float[Array, "batch *spatial"]:
    """Class-activation maps by gradients (Grad-CAM), of the spatial size of a layer's output.

        a_k = mean over positions i of  d y_c / d A_ik
        L_c = ReLU(sum over k of a_k A_k)

    A, (batch, *spatial, channels), is what `layer` returns. y_c is the logit of class c; of a
    network that answers for each position, (batch, *positions, classes), it is the sum of those
    logits over all positions, or over those in `where`. No map is scaled: to lay one over an image,
    divide by its maximum and resize it, as with `jax.image.resize`.

    `layer` is the path of a submodule, as "stage3_block0/fuse", and by default the last fusion.
    `classes` is one class for the whole batch or one for each example; by default the predicted
    one, which is for networks that answer once an example. The network runs in evaluation mode.

    Pure, and to be compiled as `jax.jit(functools.partial(grad_cam, model, layer=...))`. It works
    with any linen module that is not under `flax.linen.jit`, and needs no change of it. Where the
    values of `classes` are not known while it is traced, a class that does not exist gives NaN.

    Raises:
        ValueError: `layer` is no submodule with a spatial output, or runs more than once; there is
            no fusion to take by default; the answer is no array of logits; `classes` or `where` do
            not fit it.

    Source: Selvaraju et al., Grad-CAM, 2017, equations 1 and 2; for the sum over positions
    Vinogradova et al., Towards Interpretable Semantic Segmentation via Gradient-weighted Class
    Activation Mapping, 2020.
    """
    calls, logits = _trace(model, variables, inputs)
    chosen = _choose(model, calls, layer)
    _check_logits(model, logits)
    batch, num_classes = logits.shape[0], logits.shape[-1]
    if classes is not None:
        classes = _check_classes(classes, batch, num_classes)
    elif logits.ndim > 2:
        raise ValueError(
            f"expected a class to explain, got none: {type(model).__name__} answers for each "
            f"position, {logits.shape}, which may be of several classes. Give `classes`, one of "
            f"0 to {num_classes - 1} or one for each example."
        )
    if where is not None and jnp.shape(where) != logits.shape[:-1]:
        raise ValueError(
            f"expected `where` of the shape of the answers' positions, {logits.shape[:-1]}, got "
            f"{jnp.shape(where)}."
        )

    def score(shift: Array) -> tuple[Array, Array]:
        logits, activations = _apply_shifted(model, variables, inputs, chosen.path, shift)
        # Half precision holds too few digits to sum thousands of positions in.
        logits = logits.astype(_wide(logits.dtype))
        of = jnp.argmax(logits, axis=-1) if classes is None else classes
        scores = jnp.sum(logits * _one_hot(of, logits), axis=-1)
        if where is not None:
            scores = jnp.where(where, scores, 0)
        # Examples don't touch one another in evaluation, so one sum gives the gradients of all.
        return jnp.sum(scores), activations

    # The gradient by what is added to A is the gradient by A, and A need not be an argument.
    shift = jnp.zeros(chosen.shape, chosen.dtype)
    gradients, activations = jax.grad(score, has_aux=True)(shift)
    gradients, activations = (x.astype(_wide(x.dtype)) for x in (gradients, activations))
    importance = jnp.mean(gradients, axis=tuple(range(1, gradients.ndim - 1)), keepdims=True)
    maps = nn.relu(jnp.sum(importance * activations, axis=-1))
    if classes is None:
        return maps
    exists = (classes >= 0) & (classes < num_classes)
    return jnp.where(exists.reshape(-1, *[1] * (maps.ndim - 1)), maps, jnp.nan)


class _Call(NamedTuple):
    """One call of a submodule, in the order in which they end."""

    path: str
    is_fusion: bool
    shape: tuple[int, ...]
    dtype: Dtype


def _trace(
    model: nn.Module, variables: Mapping[str, Any], inputs: Sequence[Any]
) -> tuple[list[_Call], Any]:
    """All calls that return a map with spatial axes, and the shape of the answer."""
    calls: list[_Call] = []

    def note(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output = call(*args, **kwargs)
        path = _path_of(context)
        if path and getattr(output, "ndim", 0) > 2 and jnp.issubdtype(output.dtype, jnp.floating):
            fuses = isinstance(context.module, Fusion)
            calls.append(_Call(path, fuses, output.shape, output.dtype))
        return output

    def run(variables: Mapping[str, Any]) -> Any:
        with nn.intercept_methods(note):
            return model.apply(variables, *inputs)

    return calls, jax.eval_shape(run, variables)


def _apply_shifted(
    model: nn.Module, variables: Mapping[str, Any], inputs: Sequence[Any], path: str, shift: Array
) -> tuple[Array, Array]:
    """The network's answer where `shift` is added to what a submodule returns, and that sum."""

    def add(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output = call(*args, **kwargs)
        if _path_of(context) != path:
            return output
        shifted = output + shift
        # Sown rather than kept in a list: the call may be traced by itself, as in `nn.remat`.
        context.module.sow("intermediates", "shifted", shifted)
        return shifted

    with nn.intercept_methods(add):
        logits, state = model.apply(variables, *inputs, mutable=["intermediates"])
    sown = traverse_util.flatten_dict(dict(state["intermediates"]), sep="/")
    (activations,) = sown[f"{path}/shifted"]
    return logits, activations


def _path_of(context: nn.module.InterceptorContext) -> str:
    """The path of the submodule that is called; "" for the whole and for other methods."""
    return "/".join(context.module.path) if context.method_name == "__call__" else ""


def _choose(model: nn.Module, calls: Sequence[_Call], layer: str | None) -> _Call:
    """The only call of that layer, or of the last fusion."""
    paths = [call.path for call in calls]
    if layer is None:
        fusions = [call.path for call in calls if call.is_fusion]
        if not fusions:
            raise ValueError(
                f"expected a layer to explain {type(model).__name__} by, got none, and it has no "
                f"fusion to take by default. Give `layer`, most often the last map before the "
                f"pooling. Known: {', '.join(dict.fromkeys(paths)) or 'none'}."
            )
        layer = fusions[-1]
    if layer not in paths:
        raise ValueError(unknown_name("layer with a spatial output:", layer, set(paths)))
    if paths.count(layer) > 1:
        raise ValueError(
            f"expected a layer that runs once, got {layer!r}, which runs {paths.count(layer)} "
            f"times and has as many maps. Choose the module around one of its calls. Known: "
            f"{', '.join(path for path in paths if paths.count(path) == 1) or 'none'}."
        )
    return calls[paths.index(layer)]


def _check_logits(model: nn.Module, logits: Any) -> None:
    if getattr(logits, "ndim", 0) < 2:
        got = f"the shape {logits.shape}" if hasattr(logits, "shape") else type(logits).__name__
        raise ValueError(
            f"expected logits of shape (batch, classes) or (batch, *positions, classes) from "
            f"{type(model).__name__}, got {got}. Probably it is a backbone: build it with "
            f"features_only=False, or wrap it in a module that returns one array of logits."
        )


def _check_classes(classes: Any, batch: int, num_classes: int) -> Array:
    classes = jnp.asarray(classes)
    if not jnp.issubdtype(classes.dtype, jnp.integer) or classes.shape not in ((), (batch,)):
        raise ValueError(
            f"expected `classes` to be one integer or one for each of {batch} examples, got "
            f"{classes.dtype} of shape {classes.shape}."
        )
    # What is being traced has no value yet.
    known = not isinstance(classes, jax.core.Tracer)
    if known and bool(jnp.any((classes < 0) | (classes >= num_classes))):
        raise ValueError(f"expected classes of 0 to {num_classes - 1}, got {classes.tolist()}.")
    return classes


def _one_hot(classes: Array, logits: Array) -> Array:
    """Ones at those classes, (batch, 1 ..., classes), or (1 ..., classes) for one class."""
    hot = jax.nn.one_hot(classes, logits.shape[-1], dtype=logits.dtype)
    return hot.reshape(*hot.shape[:-1], *[1] * (logits.ndim - hot.ndim), hot.shape[-1])


def _wide(dtype: Dtype) -> Any:
    return jnp.promote_types(dtype, jnp.float32)
