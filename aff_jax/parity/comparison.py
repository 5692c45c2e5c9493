"""Compare the activations of a PyTorch module and a linen module.

Both modules run with the same weights and inputs. The rules that convert weights give the PyTorch
name of each linen module. Activations with the same name are compared in the order in which the
linen modules ran.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax

from aff_jax.convert.prefixes import Rename
from aff_jax.inspection import Structure, inspect_module
from aff_jax.parity.about import describe
from aff_jax.parity.arguments import check_arguments
from aff_jax.parity.evidence import LinenNetwork, gather_evidence
from aff_jax.parity.explanation import explain, explain_one_sided
from aff_jax.parity.inputs import as_dtype, list_torch_inputs, with_evaluation_flags
from aff_jax.parity.linen_recording import record_linen
from aff_jax.parity.names import name_outputs
from aff_jax.parity.nnx_recording import inspect_nnx, is_nnx, record_nnx, state_of_nnx
from aff_jax.parity.recording import Inputs, is_array
from aff_jax.parity.rows import Row, compare_outputs, list_outputs
from aff_jax.parity.suggestions import check_common_layers, suggest_rename
from aff_jax.parity.torch_network import TorchNetwork

__all__ = ["Parity", "compare"]

TOO_NOISY = 1e-3
"""Above this noise, a comparison cannot detect typical mistakes."""


@dataclasses.dataclass(frozen=True)
class Parity:
    """Result of a comparison.

    Attributes:
        rows: Compared activations in the order of the linen network, the output last.
        dtype: Dtype that both networks ran in.
        tolerance: Largest allowed `max_rel` of a row, or None if it was measured for each row.
        unmatched: Layers with weights of either network, and outputs of PyTorch, that have no
            counterpart in the other one. They were not compared.
        explanation: Why the first mismatch differs, in sentences. Empty if the networks are equal.
        about: What was compared: modules, inputs and versions, by title.
    """

    rows: Sequence[Row]
    dtype: str
    tolerance: float | None = None
    unmatched: Sequence[str] = ()
    explanation: str = ""
    about: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def first_mismatch(self) -> Row | None:
        """Return the first row that differs, or None.

        A call that only one of the networks made counts if the next compared activation differs.
        An array that only one of the networks returns always counts.
        """
        first = None
        for row in self.rows:
            if row.is_one_sided and row.is_output:
                return first or row
            if row.is_one_sided:
                first = first or row
            elif row.differs:
                return first or row
            else:
                first = None
        return None

    @property
    def equal(self) -> bool:
        """Return True if the outputs were compared and no compared activation differs."""
        compared = any(row.is_output and not row.is_one_sided for row in self.rows)
        return compared and self.first_mismatch is None

    @property
    def is_too_noisy(self) -> bool:
        """Return True if rounding may hide mistakes."""
        return self.tolerance is None and any(row.allowed > TOO_NOISY for row in self.rows)


def compare(
    torch_module: Any,
    module: nn.Module,
    variables: Mapping[str, Any] | None = None,
    *inputs: Any,
    float64: bool = False,
    tolerance: float | None = None,
    rename: Rename | None = None,
    ignore: Sequence[str] = (),
    kwargs: Mapping[str, Any] | None = None,
    torch_inputs: Sequence[Any] | None = None,
    torch_kwargs: Mapping[str, Any] | None = None,
    layout: str | None = None,
) -> Parity:
    """Run both modules in evaluation mode on the same inputs and compare every activation.

    Two activations differ if their difference is larger than rounding explains. To measure that,
    each network runs again with numbers changed by one unit in the last place: the inputs and
    weights of the linen network, and the inputs of every PyTorch submodule. The allowed difference
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
        torch_inputs: Inputs of `torch_module`, in PyTorch's layout. None gives it `inputs`.
        torch_kwargs: Keyword arguments of `torch_module`. None gives it the arrays of `kwargs`.
        layout: Layout of the inputs of `torch_module` with more than two axes: "channels_first"
            makes the last axis the second one, "sequence_first" swaps the first two, and "same"
            changes nothing. None tries all, and takes the one that PyTorch accepts and that fits
            best. With `torch_inputs` it is "same".

    Returns:
        The compared activations, in the order in which the linen modules ran.

    Raises:
        TypeError: If a module is not one of its framework.
        ValueError: If the weights do not match the module, the networks have no layer in common,
            an input is empty, PyTorch's forward raises, or `tolerance` is negative.
    """
    check_arguments(torch_module, module, variables, tolerance, (inputs, kwargs))
    record = record_nnx if is_nnx(module) else record_linen
    if not is_nnx(module) and getattr(module, "remat", False) is True:
        # In evaluation, rematerialization changes nothing.
        module = module.clone(remat=False)
    dtype = "float64" if float64 else "float32"
    ours_in = with_evaluation_flags(module, Inputs(*as_dtype((inputs, dict(kwargs or {})), dtype)))
    if torch_inputs is not None:
        layout = layout or "same"
    arrays = {name: value for name, value in ours_in.kwargs.items() if _has_arrays(value)}
    given = inputs if torch_inputs is None else torch_inputs
    torch_args = (given,) if is_array(given) or hasattr(given, "detach") else tuple(given)
    torch_named = dict(arrays if torch_kwargs is None else torch_kwargs)
    theirs_in = Inputs(*as_dtype((torch_args, torch_named), dtype))
    torch_network = TorchNetwork(torch_module, dtype, rename, ignore, folds=True)
    with jax.enable_x64(float64):
        if is_nnx(module):
            structure, variables = inspect_nnx(module), state_of_nnx(module)
        else:
            structure = inspect_module(module, ours_in.args, kwargs=ours_in.kwargs)
        if variables is None:
            variables = _convert(torch_network, module, ours_in, structure)
        variables = as_dtype(jax.device_get(dict(variables)), dtype)
        runs = record(module, variables, ours_in, perturbed=(False, True))
    ours = list_outputs(*runs)

    best = None
    failures = []
    names = set(torch_network.names.values())
    for shapes, candidate in list_torch_inputs(theirs_in, layout, torch_network.has_sequences):
        try:
            theirs = torch_network.record_twice(candidate)
        except Exception as error:  # the user's module may raise anything
            failures.append(f"  with {shapes}: {type(error).__name__}: {error}")
            continue
        their_names = {output.module for output in theirs}
        our_names = name_outputs(ours, structure, torch_network.first_name, their_names)
        pairs = compare_outputs(ours, theirs, our_names, names, tolerance)
        result = Parity([pair.row for pair in pairs], dtype, tolerance)
        first = result.first_mismatch
        agreeing = len(pairs) if first is None else result.rows.index(first)
        if best is None or agreeing > best[0]:
            best = (agreeing, result, pairs, candidate, their_names)
        if first is None:
            break
    if best is None:
        raise ValueError(
            "PyTorch's forward raised an error with every layout of the inputs:\n"
            + "\n".join(failures)
            + "\nPass `torch_inputs` and `torch_kwargs` as the module takes them."
        )
    _, result, pairs, torch_in, torch_outputs = best
    has_weights = torch_network.has_weights
    if not result.equal:
        check_common_layers(result.rows, torch_network, structure)
    explanation = ""
    first = result.first_mismatch
    if first is not None and first.is_one_sided:
        explanation = explain_one_sided(first, result.rows)
        # A call that one side does not make may be harmless, and the next difference a mistake.
        place = result.rows.index(first)
        compared = [row for row in result.rows[place:] if not row.is_one_sided]
        first = next((row for row in compared if row.differs), None)
        explanation += " After it: " if first is not None else ""
    if first is not None:
        network = LinenNetwork(module, variables, ours_in, structure)
        with jax.enable_x64(float64):
            pair = next(pair for pair in pairs if pair.row is first)
            evidence = gather_evidence(pair, pairs, network, torch_network, torch_in)
            explanation += explain(first, evidence)
    return dataclasses.replace(
        result,
        unmatched=_list_unmatched(result.rows, structure, has_weights, torch_outputs),
        explanation=explanation,
        about=describe(torch_module, module, ours_in, torch_in),
    )


def _has_arrays(tree: Any) -> bool:
    """Return whether a tree has an array."""
    return any(is_array(leaf) for leaf in jax.tree.leaves(tree))


def _convert(
    torch_network: TorchNetwork, module: nn.Module, inputs: Inputs, structure: Structure
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
    has_weights: Mapping[str, bool],
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
        f"{name} (PyTorch)" for name, has in has_weights.items() if has and name not in matched
    ]
