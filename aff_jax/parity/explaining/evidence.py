"""Gather facts about the layer of the first mismatch."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util

from aff_jax.convert.rules import PYTORCH
from aff_jax.inspection import ModulePath, Structure
from aff_jax.parity.explaining.nnx_layers import convert_to_nnx, find_nnx_layer
from aff_jax.parity.explaining.single_layer import SingleLayer
from aff_jax.parity.explaining.weight_causes import Weights
from aff_jax.parity.layouts import align
from aff_jax.parity.recording.linen_recording import record_linen
from aff_jax.parity.recording.nnx_recording import is_nnx, record_nnx
from aff_jax.parity.recording.recorder import Call, Inputs, is_array
from aff_jax.parity.recording.torch_network import TorchNetwork
from aff_jax.parity.rows import Pair

__all__ = ["Evidence", "JaxNetwork", "SharedArray", "gather_evidence", "list_arrays"]


class SharedArray(NamedTuple):
    """An activation that both networks have computed before and that agrees, or a parameter.

    Attributes:
        label: Its name in sentences.
        jax_array: The array of the JAX network.
        torch_array: The array of the PyTorch network, in the same layout.
        is_parameter: True for a parameter. It may be a term or a factor, and not an input.
    """

    label: str
    jax_array: np.ndarray
    torch_array: np.ndarray
    is_parameter: bool = False


@dataclasses.dataclass(frozen=True)
class Evidence:
    """Facts about the layer of the first mismatch.

    Attributes:
        pairs: The compared activations in order.
        inputs: Inputs of both networks, as activations that agree.
        call: The JAX call of the first mismatch, with its inputs.
        torch_call: The PyTorch call, with its inputs.
        layer: The layer with its variables. None if it is not known.
        torch_layer: The PyTorch module.
        weights: Variables of the layer itself by the name of the leaf.
        torch_weights: PyTorch's weights, converted, by layer and name of the leaf. Empty if they
            cannot be converted.
        torch_names: Names in PyTorch of the layers in `torch_weights`.
    """

    pairs: Sequence[Pair]
    inputs: Sequence[SharedArray]
    call: Call
    torch_call: Call
    layer: SingleLayer | None
    torch_layer: Any
    weights: Weights
    torch_weights: Mapping[str, Weights]
    torch_names: Mapping[str, str] = dataclasses.field(default_factory=dict)


class JaxNetwork(NamedTuple):
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
    network: JaxNetwork,
    torch_network: TorchNetwork,
    torch_inputs: Inputs,
) -> Evidence:
    """Run both networks again, and record the inputs of the layer of the first mismatch.

    Args:
        pair: The pair of the first mismatch, with a call in both networks.
        pairs: The compared activations in order.
        network: The JAX network.
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
    if is_nnx(module):
        layer = find_nnx_layer(module, variables, path)
        torch_weights = convert_to_nnx(torch_network, module)
    else:
        at = tuple(path.split("/")) if path else ()
        layer = _find_layer(structure, variables, at)
        torch_weights = {}
        # The conversion fails if the layers differ. Then there are no weights to compare.
        with contextlib.suppress(ValueError):
            torch_weights = _weights_by_layer(torch_network.convert(module, inputs, structure))
    call = _select(calls, path, first.call)
    torch_call = _order_outputs(_select(torch_calls, name, pair.torch_number), call.keys)
    given = zip(list_arrays(inputs), list_arrays(torch_inputs), strict=False)
    aligned = [(jax_array, align(torch_array, jax_array)) for jax_array, torch_array in given]
    return Evidence(
        pairs=pairs,
        inputs=[
            SharedArray("the input", jax_array, a.array)
            for jax_array, a in aligned
            if a is not None
        ],
        call=call,
        torch_call=torch_call,
        layer=layer,
        torch_layer=torch_network.module.get_submodule(torch_network.old_name(name)),
        weights=_weights_by_layer(variables).get(path, {}),
        torch_weights=torch_weights,
        torch_names={
            layer: _name_in_torch(layer, structure, torch_network) for layer in torch_weights
        },
    )


def _select(calls: Sequence[Call], module: str, number: int) -> Call:
    """Return a call by its number, or the last one if there are fewer."""
    return [call for call in calls if call.module == module and call.number <= number][-1]


def _order_outputs(call: Call, keys: Sequence[str]) -> Call:
    """Put the outputs of a call in the order of these keys, if it has the same ones."""
    if set(call.keys) != set(keys) or len(call.keys) != len(set(keys)):
        return call
    by_key = dict(zip(call.keys, call.outputs, strict=True))
    return call._replace(outputs=tuple(by_key[key] for key in keys), keys=tuple(keys))


def _find_layer(
    structure: Structure, variables: Mapping[str, Any], at: ModulePath
) -> SingleLayer | None:
    """Find a layer of a linen module by its path."""
    layer = structure.layers.get(at)
    if layer is None:
        return None
    own = dict(variables)
    for collection in own:
        for name in at:
            own[collection] = own[collection].get(name, {})
    return SingleLayer(layer.module.clone(parent=None, name=None), own)


def _name_in_torch(path: str, structure: Structure, torch_network: TorchNetwork) -> str:
    """Return the name of a layer in PyTorch, before `rename`."""
    name = PYTORCH.name_of(tuple(path.split("/")) if path else (), structure)
    return torch_network.old_name(name) if name in torch_network.names.values() else name


def _weights_by_layer(variables: Mapping[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """Group arrays by the path of their layer and the name of the leaf."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for collection in ("params", "batch_stats", "nnx"):
        flat = traverse_util.flatten_dict(dict(variables.get(collection, {})))
        for path, leaf in flat.items():
            if is_array(leaf):
                *layer, name = map(str, path)
                layers.setdefault("/".join(layer), {})[name] = np.asarray(leaf)
    return layers


def list_arrays(inputs: Inputs) -> list[np.ndarray]:
    """List the arrays among the inputs of a network.

    Args:
        inputs: The inputs.

    Returns:
        The arrays in order.
    """
    return [leaf for leaf in jax.tree.leaves(tuple(inputs)) if is_array(leaf)]
