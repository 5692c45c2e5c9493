"""Gather facts about the layer of the first mismatch."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from aff_jax.inspection import Structure
from aff_jax.parity.layouts import align
from aff_jax.parity.linen_recording import record_linen
from aff_jax.parity.nnx_recording import is_nnx, record_nnx
from aff_jax.parity.recording import Call, Inputs, is_array
from aff_jax.parity.relations import Earlier
from aff_jax.parity.rows import Pair
from aff_jax.parity.torch_network import TorchNetwork
from aff_jax.parity.weight_causes import Weights

__all__ = ["Evidence", "LinenNetwork", "gather_evidence"]


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Facts about the layer of the first mismatch.

    Attributes:
        pairs: The compared activations in order.
        inputs: Inputs of both networks, as activations that agree.
        call: The linen call of the first mismatch, with its inputs.
        torch_call: The PyTorch call, with its inputs.
        layer: The linen module, without variables. None if it is not known.
        torch_layer: The PyTorch module.
        variables: Variables of the layer by collection.
        weights: Variables of the layer itself by the name of the leaf.
        torch_weights: PyTorch's weights, converted, by layer and name of the leaf. Empty if they
            cannot be converted.
    """

    pairs: Sequence[Pair]
    inputs: Sequence[Earlier]
    call: Call
    torch_call: Call
    layer: nn.Module | None
    torch_layer: Any
    variables: Mapping[str, Any]
    weights: Weights
    torch_weights: Mapping[str, Weights]


class LinenNetwork(NamedTuple):
    """A linen or NNX module as one side of a comparison.

    Attributes:
        module: The module.
        variables: Its variables, NumPy arrays.
        inputs: Its inputs.
        structure: Its structure.
    """

    module: Any
    variables: Mapping[str, Any]
    inputs: Inputs
    structure: Structure


def gather_evidence(
    pair: Pair,
    pairs: Sequence[Pair],
    network: LinenNetwork,
    torch_network: TorchNetwork,
    torch_inputs: Inputs,
) -> Evidence:
    """Run both networks again, and record the inputs of the layer of the first mismatch.

    Args:
        pair: The pair of the first mismatch, with a call in both networks.
        pairs: The compared activations in order.
        network: The linen network.
        torch_network: The PyTorch network.
        torch_inputs: Inputs of the PyTorch network.

    Returns:
        The evidence for `explain`.
    """
    module, variables, inputs, structure = network
    first = pair.row
    path, name = (text.partition("[")[0].rstrip("/") for text in (first.path, first.name))
    record = record_nnx if is_nnx(module) else record_linen
    (calls,) = record(module, variables, inputs, inputs_of=(path,))
    torch_calls = torch_network.record(torch_inputs, inputs_of=(name,))
    weights: Mapping[str, Any] = {}
    if not is_nnx(module):
        # If the variables were given, PyTorch's may not match.
        with contextlib.suppress(ValueError):
            weights = torch_network.convert(module, inputs, structure)
    at = tuple(path.split("/")) if path else ()
    layer = structure.layers.get(at)
    given = zip(_arrays(inputs), _arrays(torch_inputs), strict=False)
    aligned = [(ours, align(theirs, ours)) for ours, theirs in given]
    return Evidence(
        pairs=pairs,
        inputs=[Earlier("the input", ours, a.array) for ours, a in aligned if a is not None],
        call=_select(calls, path, first.call),
        torch_call=_select(torch_calls, name, pair.torch_call),
        layer=None if layer is None else layer.module.clone(parent=None, name=None),
        torch_layer=torch_network.module.get_submodule(torch_network.old_name(name)),
        variables={collection: _subtree(tree, at) for collection, tree in variables.items()},
        weights=_weights_by_layer(variables).get(path, {}),
        torch_weights=_weights_by_layer(weights),
    )


def _select(calls: Sequence[Call], module: str, number: int) -> Call:
    """Return a call by its number, or the last one if there are fewer."""
    return [call for call in calls if call.module == module and call.number <= number][-1]


def _subtree(tree: Any, path: Sequence[str]) -> Any:
    for name in path:
        tree = tree.get(name, {})
    return tree


def _weights_by_layer(variables: Mapping[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    layers: dict[str, dict[str, np.ndarray]] = {}
    for collection in ("params", "batch_stats"):
        flat = traverse_util.flatten_dict(dict(variables.get(collection, {})))
        for path, leaf in flat.items():
            layers.setdefault("/".join(path[:-1]), {})[path[-1]] = np.asarray(leaf)
    return layers


def _arrays(inputs: Inputs) -> list[np.ndarray]:
    return [leaf for leaf in jax.tree.leaves(tuple(inputs)) if is_array(leaf)]
