"""Compare the activations of a PyTorch module and a linen or NNX module.

Both modules run with the same weights and inputs. The rules that convert weights give the PyTorch
name of each module in JAX. Activations with the same name are compared in the order in which the
modules ran there.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from aff_jax.convert.prefixes import Rename
from aff_jax.inspection import Structure, inspect_module
from aff_jax.parity.about import describe
from aff_jax.parity.arguments import check_arguments
from aff_jax.parity.explaining.evidence import JaxNetwork, list_arrays
from aff_jax.parity.explaining.first_mismatch import explain_first_mismatch
from aff_jax.parity.hidden_epsilons import list_hidden_epsilons
from aff_jax.parity.names import name_outputs, use_keys
from aff_jax.parity.output_differences import compare_outputs
from aff_jax.parity.recording.inputs import (
    as_dtype,
    enable_dtype,
    list_torch_inputs,
    with_evaluation_flags,
)
from aff_jax.parity.recording.linen_recording import record_linen
from aff_jax.parity.recording.nnx_recording import (
    inspect_nnx,
    is_nnx,
    record_nnx,
    state_of_nnx,
    submodules_of_nnx,
)
from aff_jax.parity.recording.recorder import Inputs, is_array
from aff_jax.parity.recording.torch_network import TorchNetwork
from aff_jax.parity.result import Parity
from aff_jax.parity.rows import Output, Pair, Row, list_outputs
from aff_jax.parity.suggestions import check_common_layers, suggest_rename

__all__ = ["compare"]


def compare(
    torch_module: Any,
    module: Any,
    variables: Mapping[str, Any] | None = None,
    *inputs: Any,
    float64: bool = False,
    tolerance: float | None = None,
    rename: Rename | None = None,
    ignore: Sequence[str] = (),
    kwargs: Mapping[str, Any] | None = None,
    torch_inputs: Any = None,
    torch_kwargs: Mapping[str, Any] | None = None,
    layout: str | None = None,
) -> Parity:
    """Run both modules in evaluation mode on the same inputs and compare every activation.

    Two activations differ if their difference is larger than rounding explains. To measure that,
    each network runs again with numbers changed by one unit in the last place: the inputs and
    weights of the JAX network, and the inputs of every PyTorch submodule. The allowed difference
    is 50 times the larger one of the two changes, and at least 64 units in the last place of the
    largest value of the layer; for dtypes narrower than float32, 4 times and 4 units.

    The hooks of `torch_module` run too, in the copy and once per run, since they may be a part of
    what it computes. Remove those that only observe before the comparison.

    Args:
        torch_module: PyTorch module. It is copied and not changed.
        module: Linen module, or NNX module. An NNX module carries its weights, which are not
            converted: copy them from `torch_module` before.
        variables: Variables of a linen module. None converts them from `torch_module`.
        *inputs: Inputs of `module`: arrays, lists and dicts of them, flags and None.
        float64: Run both modules in float64 instead of float32, which separates wrong weights from
            rounding errors.
        tolerance: Largest allowed difference, relative to the largest value of each layer. None
            measures it.
        rename: New names for those in `torch_module`, as in `from_torch`.
        ignore: Names of weights and buffers of `torch_module` that have no counterpart, as in
            `from_torch`. `*` is any text.
        kwargs: Keyword arguments of `module`. Arguments such as `train` that have no default are
            set for evaluation.
        torch_inputs: Inputs of `torch_module`, in PyTorch's layout: a sequence, or one tensor. None
            gives it `inputs`.
        torch_kwargs: Keyword arguments of `torch_module`. None gives it the arrays of `kwargs`.
        layout: Layout of the inputs of `torch_module` with more than two axes: "channels_first"
            makes the last axis the second one, "sequence_first" swaps the first two, and "same"
            changes nothing. None tries all, and takes the one that PyTorch accepts and that fits
            best. With `torch_inputs` it is "same".

    Returns:
        The compared activations, in the order in which the JAX modules ran.

    Raises:
        TypeError: If a module is not one of its framework.
        ValueError: If the weights do not match the module, the networks have no layer in common,
            an input is empty, PyTorch's forward raises, or `tolerance` is negative.
    """
    check_arguments(torch_module, module, variables, tolerance, (inputs, kwargs))
    dtype = "float64" if float64 else "float32"
    jax_inputs = with_evaluation_flags(
        module, Inputs(*as_dtype((inputs, dict(kwargs or {})), dtype))
    )
    given = as_dtype(_select_torch_inputs(jax_inputs, inputs, torch_inputs, torch_kwargs), dtype)
    layout = layout if torch_inputs is None else layout or "same"
    torch_network = TorchNetwork(torch_module, dtype, rename, ignore, folds=True)
    with enable_dtype(dtype):
        network = _prepare(module, variables, jax_inputs, torch_network)
        jax_outputs = _run(network)
        best = _compare_in_best_layout(
            jax_outputs, network, torch_network, given, layout, tolerance
        )
        result = Parity([pair.row for pair in best.pairs], dtype, tolerance)
        if not result.equal:
            check_common_layers(result.rows, torch_network, network.structure)
        explanation = explain_first_mismatch(
            result.first_mismatch, best.pairs, network, torch_network, best.inputs
        )
    return dataclasses.replace(
        result,
        unmatched=_list_unmatched(result.rows, network.structure, torch_network, best.outputs),
        explanation=explanation,
        hidden_epsilons=_list_hidden(result, network, torch_network),
        about=describe(torch_module, module, jax_inputs, best.inputs),
    )


class _Candidate(NamedTuple):
    """The comparison with inputs of PyTorch in one layout.

    Attributes:
        pairs: The compared activations.
        inputs: Inputs of the PyTorch module.
        outputs: Names of the outputs of the PyTorch network.
    """

    pairs: Sequence[Pair]
    inputs: Inputs
    outputs: Collection[str]

    @property
    def agreeing(self) -> int:
        """Return the number of rows before the first mismatch."""
        result = Parity([pair.row for pair in self.pairs], "")
        first = result.first_mismatch
        return len(result.rows) if first is None else result.rows.index(first)


def _select_torch_inputs(
    jax_inputs: Inputs,
    inputs: Sequence[Any],
    torch_inputs: Sequence[Any] | None,
    torch_kwargs: Mapping[str, Any] | None,
) -> Inputs:
    """Return PyTorch's inputs: those that were given, or else the arrays of `jax_inputs`."""
    given = inputs if torch_inputs is None else torch_inputs
    args = (given,) if is_array(given) or hasattr(given, "detach") else tuple(given)
    arrays = {name: value for name, value in jax_inputs.kwargs.items() if _has_arrays(value)}
    return Inputs(args, dict(arrays if torch_kwargs is None else torch_kwargs))


def _prepare(
    module: Any,
    variables: Mapping[str, Any] | None,
    inputs: Inputs,
    torch_network: TorchNetwork,
) -> JaxNetwork:
    """Inspect the module in JAX, and convert PyTorch's weights if there are no variables."""
    if is_nnx(module):
        structure, variables = inspect_nnx(module), state_of_nnx(module)
    else:
        if getattr(module, "remat", False) is True:
            # In evaluation, rematerialization changes nothing.
            module = module.clone(remat=False)
        structure = inspect_module(module, inputs.args, kwargs=inputs.kwargs)
        if variables is None:
            variables = _convert(torch_network, module, inputs, structure)
    variables = as_dtype(jax.device_get(dict(variables)), torch_network.dtype)
    return JaxNetwork(module, variables, inputs, structure)


def _run(network: JaxNetwork) -> list[Output]:
    """Run the network in JAX, and again with perturbed variables and inputs."""
    record = record_nnx if is_nnx(network.module) else record_linen
    runs = record(network.module, network.variables, network.inputs, perturbed=(False, True))
    return list_outputs(*runs)


def _compare_in_best_layout(
    jax_outputs: Sequence[Output],
    network: JaxNetwork,
    torch_network: TorchNetwork,
    torch_inputs: Inputs,
    layout: str | None,
    tolerance: float | None,
) -> _Candidate:
    """Run PyTorch with its inputs in each layout, and compare where most rows agree.

    Raises:
        ValueError: If PyTorch's forward raises an error with every layout.
    """
    best: _Candidate | None = None
    failures = []
    known = set(torch_network.names.values())
    for shapes, inputs in list_torch_inputs(torch_inputs, layout, torch_network.has_sequences):
        try:
            torch_outputs = torch_network.record_twice(inputs)
        except Exception as error:  # the user's module may raise anything
            failures.append(f"  with {shapes}: {type(error).__name__}: {error}")
            continue
        outputs = {output.module for output in torch_outputs}
        names = name_outputs(jax_outputs, network.structure, torch_network.first_name, outputs)
        by_key = use_keys(jax_outputs, torch_outputs, names)
        both = list(zip(list_arrays(network.inputs), list_arrays(inputs), strict=False))
        pairs = compare_outputs(*by_key, known, tolerance, both)
        candidate = _Candidate(pairs, inputs, {output.module for output in by_key[1]})
        if best is None or candidate.agreeing > best.agreeing:
            best = candidate
        if candidate.agreeing == len(pairs):
            break
    if best is None:
        raise ValueError(
            "PyTorch's forward raised an error with every layout of the inputs:\n"
            + "\n".join(failures)
            + "\nPass `torch_inputs` and `torch_kwargs` as the module takes them."
        )
    return best


def _list_hidden(result: Parity, network: JaxNetwork, torch_network: TorchNetwork) -> list[str]:
    """List the norms whose other epsilon does not show in float32."""
    if result.dtype == "float64" or not result.equal:
        return []
    if is_nnx(network.module):
        modules = submodules_of_nnx(network.module)
    else:
        modules = {path: layer.module for path, layer in network.structure.layers.items()}
    layers = {"/".join(map(str, path)): module for path, module in modules.items()}
    return list_hidden_epsilons(result.rows, layers, torch_network)


def _has_arrays(tree: Any) -> bool:
    """Return whether a tree has an array."""
    return any(is_array(leaf) for leaf in jax.tree.leaves(tree))


def _convert(
    torch_network: TorchNetwork, module: Any, inputs: Inputs, structure: Structure
) -> Mapping[str, Any]:
    """Convert the weights, with a suggestion of `rename` in the error."""
    try:
        return torch_network.convert(module, inputs, structure)
    except ValueError as error:
        suggestion = suggest_rename(torch_network, structure)
        if not suggestion:
            raise
        raise ValueError(f"{error}\n{suggestion}") from error


def _list_unmatched(
    rows: Sequence[Row],
    structure: Structure,
    torch_network: TorchNetwork,
    torch_outputs: Collection[str],
) -> list[str]:
    """List the layers with weights, and PyTorch's outputs, that were not compared."""
    outputs = sorted({name for name in torch_outputs if name.startswith("[")})
    outputs = [name for name in outputs if name not in {row.name for row in rows}]
    matched = {row.name.partition("[")[0] for row in rows}
    paths = {row.path.partition("/[")[0] for row in rows}
    layers = sorted({path[:-1] for path, _ in structure.leaves("params")})
    unmatched = [path for path in map("/".join, layers) if path not in paths]
    unmatched += [f"the output {name} (PyTorch)" for name in outputs]
    return unmatched + [
        f"{name} (PyTorch)"
        for name, has in torch_network.has_weights.items()
        if has and name not in matched
    ]
