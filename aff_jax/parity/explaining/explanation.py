"""Explain why two networks first differ where they do."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from aff_jax.parity.array_differences import is_allowed
from aff_jax.parity.explaining.calls import quote_call
from aff_jax.parity.explaining.evidence import Evidence, SharedArray
from aff_jax.parity.explaining.field_causes import explain_fields, explain_reference
from aff_jax.parity.explaining.layer_inputs import align_inputs, are_exchanged
from aff_jax.parity.explaining.relations import RELATIONS, find_relation
from aff_jax.parity.explaining.reordering import find_padding
from aff_jax.parity.explaining.single_layer import SingleLayer
from aff_jax.parity.explaining.weight_causes import explain_weights
from aff_jax.parity.layouts import align
from aff_jax.parity.output_differences import ULPS_OF_LARGEST
from aff_jax.parity.rows import Pair, Row

__all__ = ["explain", "explain_fusion"]


_LAYER_LEAVES = {"kernel", "bias", "scale", "mean", "var", "embedding"}
"""Names of the variables of layers."""


def explain(first: Row, evidence: Evidence) -> str:
    """Explain the first mismatch of two networks.

    Args:
        first: The first row that differs, with a call in both networks.
        evidence: What is known about its layer.

    Returns:
        Sentences: whether the inputs of the layer differ, or the layer itself, and why.
    """
    place = next(i for i, pair in enumerate(evidence.pairs) if pair.row is first)
    earlier = [*_parameters(evidence), *evidence.inputs, *_earlier(evidence.pairs[:place])]
    rows = [pair.row for pair in evidence.pairs] if first.note else [first]
    allowed = max(row.allowed_rel for row in rows)
    allowed = allowed or ULPS_OF_LARGEST * float(np.finfo(evidence.call.outputs[0].dtype).eps)
    name = quote_call(first)
    pairs = align_inputs(evidence)
    if are_exchanged(pairs, allowed):
        return (
            f"{name[:1].upper()}{name[1:]} gets the same two inputs in both networks, but in the "
            f"other order: exchange them in JAX."
        )
    for position, (jax_array, torch_array) in enumerate(pairs):
        which = "input" if len(pairs) == 1 else f"input {position + 1}"
        if torch_array is None:
            return (
                f"The {which} of {name}, of the shape {jax_array.shape}, exists only in JAX: "
                f"PyTorch passes fewer arrays."
            )
        if jax_array.shape != torch_array.shape:
            return _explain_shape(name, which, jax_array, torch_array, earlier, allowed)
        if not is_allowed(jax_array, torch_array, allowed):
            return _explain_input(name, which, jax_array, torch_array, earlier, allowed, evidence)
    same_input = (
        f"{name[:1].upper()}{name[1:]} gets the same input in both networks, and its output differs"
    )
    if first.note:
        cause = _explain_layer(evidence, allowed, earlier, place)
        return f"{same_input} in shape: {first.note}, and JAX's is {first.shape}. {cause}"
    by = f"by {first.max_rel:.1e} of its largest value"
    return f"{same_input} {by}. {_explain_layer(evidence, allowed, earlier, place)}"


def explain_fusion(first: Row, fusion: Row, evidence: Evidence) -> str:
    """Explain a mismatch inside a fusion by the reference that the fusion follows.

    Args:
        first: The first row that differs.
        fusion: The row of the fusion.
        evidence: What is known about the fusion.

    Returns:
        A sentence, or an empty string if no reference makes the fusion agree.
    """
    agrees = _make_test(evidence, evidence.layer, fusion.allowed_rel)
    if evidence.layer is None or agrees is None:
        return ""
    cause, _ = explain_reference(evidence.layer.module, agrees)
    place = f"{quote_call(first)} is inside the fusion {quote_call(fusion)}"
    return f"{place[:1].upper()}{place[1:]}. {cause}" if cause else ""


def _explain_shape(
    name: str,
    which: str,
    jax_array: np.ndarray,
    torch_array: np.ndarray,
    earlier: Sequence[SharedArray],
    allowed: float,
) -> str:
    """Explain an input that has another shape in PyTorch."""
    if (widths := find_padding(jax_array, torch_array)) is not None:
        return (
            f"PyTorch pads the {which} of {name} with zeros by {widths} (batch, spatial axes, "
            f"channels) before the layer, and JAX does not. Otherwise the {which} agrees. Compare "
            f"that with the `padding` of this layer."
        )
    relation = _relate(jax_array, torch_array, earlier, allowed)
    return (
        f"The {which} of {name} has the shape {jax_array.shape} in JAX and {torch_array.shape} in "
        f"PyTorch. {relation or 'Compare strides, padding, and the number of layers before it.'}"
    )


def _explain_input(
    name: str,
    which: str,
    jax_array: np.ndarray,
    torch_array: np.ndarray,
    earlier: Sequence[SharedArray],
    allowed: float,
    evidence: Evidence,
) -> str:
    """Explain an input that differs although all earlier activations agree."""
    missing = np.isnan(jax_array)
    if missing.any() and np.array_equal(missing, np.isnan(torch_array)):
        return f"The {which} of {name} has NaN at the same places in both networks."
    relation = _relate(jax_array, torch_array, earlier, allowed)
    last = next((e.label for e in earlier[::-1] if not e.is_parameter), "the input")
    sentences = [
        f"The {which} of {name} already differs, and every compared activation before it agrees. "
        f"So the networks differ in what they compute between {last} and this layer.",
        relation or f"What it is was not found. Tried, each on one recorded array: {RELATIONS}.",
    ]
    agrees = _make_test(evidence, evidence.layer, allowed)
    if agrees is not None:
        if agrees({}):
            sentences.append("The layer itself agrees with PyTorch's on PyTorch's input.")
        else:
            cause, _ = _explain_own(evidence, agrees, allowed)
            sentences.append(f"On PyTorch's input the layer differs as well. {cause}".rstrip())
    return " ".join(sentences)


def _explain_layer(
    evidence: Evidence, allowed: float, earlier: Sequence[SharedArray], place: int
) -> str:
    """Explain a layer that has another output for the same input."""
    own, fields = _explain_own(evidence, _make_test(evidence, evidence.layer, allowed), allowed)
    if own:
        return own
    if len(evidence.call.inputs) == 2:
        agrees = _make_test(evidence, evidence.layer, allowed, exchanged=True)
        if agrees is not None and agrees({}):
            cause = "With its two inputs exchanged it agrees: exchange them in JAX."
            if evidence.layer is not None and hasattr(evidence.layer.module, "combine"):
                cause += " PyTorch weights the second input by M and the first by 1 - M."
            return cause
    pair = evidence.pairs[place]
    inside = [
        SharedArray(
            f"the input{f' {i}' if len(evidence.call.inputs) > 1 else ''}", jax_array, torch_array
        )
        for i, (jax_array, torch_array) in enumerate(align_inputs(evidence))
        if torch_array is not None and jax_array.shape == torch_array.shape
    ]
    relation = ""
    if pair.jax_array is not None and pair.torch_array is not None:
        relation = _relate(pair.jax_array, pair.torch_array, [*earlier, *inside], allowed)
    if _has_parts(evidence, place):
        where = "The compared layers inside it agree. "
    else:
        where = "Its weights are PyTorch's. " if _has_torch_weights(evidence) else ""
    listed = f"the fields {', '.join(fields)}; " if fields else ""
    return where + (
        relation
        or f"The cause was not found. Tried: {listed}each on one recorded array, {RELATIONS}."
    )


def _has_torch_weights(evidence: Evidence) -> bool:
    """Return whether the weights of the layer were compared with PyTorch's, and are equal."""
    torch_weights = evidence.torch_weights.get(evidence.call.module, {})
    return bool(evidence.weights) and all(
        leaf in torch_weights and np.array_equal(value, torch_weights[leaf])
        for leaf, value in evidence.weights.items()
    )


def _relate(
    jax_array: np.ndarray, torch_array: np.ndarray, earlier: Sequence[SharedArray], allowed: float
) -> str:
    """Find the relation of two arrays, or count the values that are not finite."""
    broken = [int(np.sum(~np.isfinite(array))) for array in (jax_array, torch_array)]
    if any(broken):
        return (
            f"{broken[0]} of {jax_array.size} values are infinite or NaN in JAX, and "
            f"{broken[1]} of {torch_array.size} in PyTorch."
        )
    return find_relation(jax_array, torch_array, earlier, allowed)


def _explain_own(
    evidence: Evidence, agrees: Callable[[Mapping[str, Any]], bool] | None, allowed: float
) -> tuple[str, list[str]]:
    """Explain a difference in the weights or fields of the layer, and list the compared fields."""
    path, layer = evidence.call.module, evidence.layer
    names = evidence.torch_names
    other_weights = {names.get(n, n): w for n, w in evidence.torch_weights.items() if n != path}
    torch_weights = evidence.torch_weights.get(path, {})
    causes: list[str] = []
    fields: list[str] = []
    if (
        evidence.weights
        and torch_weights
        and (cause := explain_weights(evidence.weights, torch_weights, other_weights))
    ):
        causes.append(cause)
        if layer is not None:
            layer = layer.with_weights(torch_weights)
        if agrees is not None:
            agrees = _make_test(evidence, layer, allowed, checked=False)
        if agrees is not None and agrees({}):
            return f"{cause} With PyTorch's weights the layer agrees.", []
    if layer is not None and agrees is not None and not agrees({}):
        cause, fields = explain_fields(layer.module, evidence.torch_layer, agrees)
        causes += [cause] if cause else []
    return " ".join(causes), fields


def _make_test(
    evidence: Evidence,
    layer: SingleLayer | None,
    allowed: float,
    checked: bool = True,
    exchanged: bool = False,
) -> Callable[[Mapping[str, Any]], bool] | None:
    """Return a function that tests whether a layer has PyTorch's output on PyTorch's input.

    Its argument is a dict of other fields. With `checked`, the layer must have its own recorded
    output on its own input. With `exchanged`, PyTorch's inputs are passed in reverse order.
    """
    pairs = align_inputs(evidence)
    if not pairs or any(other is None or one.shape != other.shape for one, other in pairs):
        return None
    own_inputs = [jax_array for jax_array, _ in pairs]
    inputs = [
        torch_array.astype(jax_array.dtype)
        for jax_array, torch_array in pairs
        if torch_array is not None
    ][:: -1 if exchanged else 1]

    def has_outputs(layer: SingleLayer, inputs: Sequence[np.ndarray], expected: Any) -> bool:
        """Return whether the layer computes the expected outputs."""
        outputs = layer.run(inputs)
        # PyTorch's layer may return more arrays, as attention does.
        if outputs is None or len(outputs) > len(expected):
            return False
        aligned = [
            align(array, jax_array) for jax_array, array in zip(outputs, expected, strict=False)
        ]
        # The layer alone is compiled differently from the network, so it rounds differently.
        return all(
            a is not None and is_allowed(jax_array, a.array, 10 * allowed)
            for jax_array, a in zip(outputs, aligned, strict=True)
        )

    if layer is None or (checked and not has_outputs(layer, own_inputs, evidence.call.outputs)):
        return None  # it was called with arguments that are not known here
    return lambda fields: has_outputs(
        layer.with_fields(fields) if fields else layer, inputs, evidence.torch_call.outputs
    )


def _earlier(pairs: Sequence[Pair]) -> list[SharedArray]:
    """List the activations that agree."""
    return [
        SharedArray(f"the output of {quote_call(pair.row)}", pair.jax_array, pair.torch_array)
        for pair in pairs
        if pair.jax_array is not None and pair.torch_array is not None and not pair.row.differs
    ]


def _parameters(evidence: Evidence) -> list[SharedArray]:
    """List PyTorch's parameters that belong to no layer, such as embeddings of positions."""
    return [
        SharedArray(f"the parameter `{leaf}`", array, array, is_parameter=True)
        for weights in evidence.torch_weights.values()
        for leaf, array in weights.items()
        if leaf not in _LAYER_LEAVES
    ]


def _has_parts(evidence: Evidence, place: int) -> bool:
    """Return whether submodules of the layer were compared before it."""
    path = evidence.call.module
    inside = f"{path}/" if path else ""
    rows = [pair.row for pair in evidence.pairs[:place]]
    return any(row.path.startswith(inside) and row.path != path for row in rows)
