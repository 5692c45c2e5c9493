"""Compare the activations of a PyTorch module and a linen module.

Both modules run with the same weights and inputs. The rules that convert weights give the PyTorch
name of each linen module. Activations with the same name are compared in the order in which the
linen modules ran.
"""

import dataclasses
import difflib
import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax

from aff_jax.convert.rules import PYTORCH
from aff_jax.inspection import Structure, inspect_module
from aff_jax.parity.about import describe
from aff_jax.parity.evidence import LinenNetwork, gather_evidence
from aff_jax.parity.explanation import explain, explain_one_sided
from aff_jax.parity.inputs import (
    as_dtype,
    has_floats,
    list_torch_inputs,
    move_by_ulp,
    with_evaluation_flags,
)
from aff_jax.parity.recording import Inputs, is_array, record_linen
from aff_jax.parity.rows import Row, compare_outputs, list_outputs
from aff_jax.parity.suggestions import suggest_rename
from aff_jax.parity.torch_network import TorchNetwork

__all__ = ["Parity", "compare"]

TOO_NOISY = 1e-3
"""Noise from which on a comparison in float32 cannot find the usual mistakes."""


@dataclasses.dataclass(frozen=True)
class Parity:
    """Result of a comparison.

    Attributes:
        rows: Compared activations in the order of the linen network, the output last.
        dtype: Dtype that both networks ran in.
        tolerance: Largest allowed `max_rel` of a row, or None if it was measured for each row.
        unmatched: Layers with weights, of either network, that have no counterpart in the other
            one. They were not compared.
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
        """
        first = None
        for row in self.rows:
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
        outputs = [row for row in self.rows if row.path.partition("[")[0] == ""]
        compared = any(not row.is_one_sided for row in outputs)
        return compared and self.first_mismatch is None

    @property
    def is_too_noisy(self) -> bool:
        """Return True if rounding in float32 may hide mistakes, so that float64 is needed."""
        return self.dtype == "float32" and any(row.allowed > TOO_NOISY for row in self.rows)


def compare(
    torch_module: Any,
    module: nn.Module,
    variables: Mapping[str, Any] | None = None,
    *inputs: Any,
    float64: bool = False,
    tolerance: float | None = None,
    rename: Mapping[str, str] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    torch_inputs: Sequence[Any] | None = None,
    torch_kwargs: Mapping[str, Any] | None = None,
    layout: str | None = None,
) -> Parity:
    """Run both modules in evaluation mode on the same inputs and compare every activation.

    Two activations differ if their difference is larger than rounding explains. To measure that,
    each network runs again with its input moved by one unit in the last place. The allowed
    difference is 50 times the larger one of the two changes, and at least 64 units in the last
    place of the largest value of the layer.

    Args:
        torch_module: PyTorch module. It is copied and not changed.
        module: Linen module.
        variables: Variables of `module`. None converts them from `torch_module`.
        *inputs: Inputs of `module`: arrays, lists and dicts of them, flags and None.
        float64: Run both modules in float64 instead of float32, which separates wrong weights from
            rounding errors.
        tolerance: Largest allowed difference, relative to the largest value of each layer. None
            measures it.
        rename: New prefixes by the prefixes in `torch_module`, as in `from_torch`.
        kwargs: Keyword arguments of `module`. Arguments such as `train` that have no default are
            set for evaluation.
        torch_inputs: Inputs of `torch_module`, in PyTorch's layout. None gives it `inputs`.
        torch_kwargs: Keyword arguments of `torch_module`. None gives it the arrays of `kwargs`.
        layout: Layout of the inputs of `torch_module` with more than two axes: "channels_first"
            moves the last axis behind the first one, "same" leaves them. None tries both, and takes
            the one that PyTorch accepts and that fits better. With `torch_inputs` it is "same".

    Returns:
        The compared activations, in the order in which the linen modules ran.

    Raises:
        TypeError: If a module is not one of its framework.
        ValueError: If the weights do not match the module, the networks have no layer in common,
            an input is empty, PyTorch's forward raises, or `tolerance` is negative.
    """
    _check(torch_module, module, tolerance, (inputs, kwargs))
    if getattr(module, "remat", False):
        # In evaluation, rematerialization changes nothing.
        module = module.clone(remat=False)
    dtype = "float64" if float64 else "float32"
    ours_in = with_evaluation_flags(module, Inputs(*as_dtype((inputs, dict(kwargs or {})), dtype)))
    if torch_inputs is not None:
        layout = layout or "same"
    arrays = {name: value for name, value in ours_in.kwargs.items() if _has_arrays(value)}
    torch_args = tuple(inputs if torch_inputs is None else torch_inputs)
    torch_named = dict(arrays if torch_kwargs is None else torch_kwargs)
    theirs_in = Inputs(*as_dtype((torch_args, torch_named), dtype))
    torch_network = TorchNetwork(torch_module, dtype, rename)
    moves_inputs = has_floats(tuple(ours_in))
    with jax.enable_x64(float64):
        structure = inspect_module(module, ours_in.args, kwargs=ours_in.kwargs)
        if variables is None:
            variables = _convert(torch_network, module, ours_in, structure)
        variables = as_dtype(jax.device_get(dict(variables)), dtype)
        moved = move_by_ulp(ours_in) if moves_inputs else ours_in
        moved_variables = variables if moves_inputs else move_by_ulp(variables)
        runs = record_linen(module, [(variables, ours_in), (moved_variables, moved)])
    ours = list_outputs(*runs)

    @functools.cache
    def name_of(path: str) -> str:
        base, bracket, position = path.partition("[")
        name = PYTORCH.name_of(tuple(base.split("/")) if base else (), structure)
        return torch_network.first_name(name) + bracket + position

    best = None
    failures = []
    names = set(torch_network.names.values())
    for shapes, candidate in list_torch_inputs(theirs_in, layout, torch_network.has_sequences):
        try:
            theirs = torch_network.record_twice(candidate, moves_inputs)
        except Exception as error:  # the user's module may raise anything
            failures.append(f"  with {shapes}: {type(error).__name__}: {error}")
            continue
        pairs = compare_outputs(ours, theirs, name_of, names, tolerance)
        result = Parity([pair.row for pair in pairs], dtype, tolerance)
        first = result.first_mismatch
        agreeing = len(pairs) if first is None else result.rows.index(first)
        if best is None or agreeing > best[0]:
            best = (agreeing, result, pairs, candidate)
        if agreeing:
            break
    if best is None:
        raise ValueError(
            "PyTorch's forward raised an error with every layout of the inputs:\n"
            + "\n".join(failures)
            + "\nPass `torch_inputs` and `torch_kwargs` as the module takes them."
        )
    _, result, pairs, torch_in = best
    has_weights = torch_network.has_weights
    if all(row.is_one_sided for row in result.rows):
        expected = {name_of(output.module) for output in ours}
        raise ValueError(_explain_names(torch_network, structure, expected))
    explanation = ""
    if (first := result.first_mismatch) is not None and first.is_one_sided:
        explanation = explain_one_sided(first, result.rows)
    elif first is not None:
        network = LinenNetwork(module, variables, ours_in, structure)
        with jax.enable_x64(float64):
            evidence = gather_evidence(first, pairs, network, torch_network, torch_in)
            explanation = explain(first, evidence)
    return dataclasses.replace(
        result,
        unmatched=_list_unmatched(result.rows, structure, has_weights),
        explanation=explanation,
        about=describe(torch_module, module, ours_in, torch_in),
    )


def _has_arrays(tree: Any) -> bool:
    """Return whether a tree has an array."""
    return any(is_array(leaf) for leaf in jax.tree.leaves(tree))


def _check(torch_module: Any, module: Any, tolerance: float | None, inputs: Any) -> None:
    import torch

    if isinstance(torch_module, nn.Module) and isinstance(module, torch.nn.Module):
        raise TypeError(
            "expected the PyTorch module first and the linen module second, got them the other way "
            "round."
        )
    if not isinstance(torch_module, torch.nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got a {type(torch_module).__name__}.")
    if not isinstance(module, nn.Module):
        raise TypeError(
            f"expected a flax.linen.Module, got a {type(module).__name__}. Pass the module itself, "
            f"not its variables."
        )
    if tolerance is not None and not tolerance >= 0:
        raise ValueError(f"expected a tolerance of at least 0, got {tolerance}.")
    for leaf in jax.tree.leaves(inputs):
        if isinstance(leaf, torch.Tensor):
            raise TypeError(
                "expected inputs as NumPy or JAX arrays in the layout of the linen module, got a "
                "torch.Tensor. Convert it with `tensor.numpy()`, or pass it as `torch_inputs`."
            )
        if is_array(leaf) and leaf.size == 0:
            raise ValueError(
                f"expected inputs with at least one value each, got an empty array of shape "
                f"{leaf.shape}."
            )


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


def _explain_names(
    torch_network: TorchNetwork, structure: Structure, expected: Collection[str]
) -> str:
    """Explain that the networks share no name, with the nearest ones."""
    names = sorted(name for name in torch_network.names.values() if name)
    near = [
        f"{name!r} and {matches[0]!r}"
        for name in sorted(expected)
        if (matches := difflib.get_close_matches(name, names, n=1))
    ]
    return (
        f"the networks have no layer in common. PyTorch's modules are {_first(names)}; the names "
        f"of the linen module are {_first(sorted(expected))}. "
        + (f"Similar are {_first(near)}. " if near else "")
        + (
            suggest_rename(torch_network, structure)
            or "Probably the names have another prefix: pass `rename`."
        )
    )


def _first(texts: Sequence[str]) -> str:
    return ", ".join(text or "(whole)" for text in texts[:8]) + (" ..." if len(texts) > 8 else "")


def _list_unmatched(
    rows: Sequence[Row], structure: Structure, has_weights: Mapping[str, bool]
) -> list[str]:
    """List the layers with weights that were not compared."""
    matched = {row.name.partition("[")[0] for row in rows}
    paths = {row.path.partition("/[")[0] for row in rows}
    layers = sorted({path[:-1] for path, _ in structure.leaves("params")})
    unmatched = [path for path in map("/".join, layers) if path not in paths]
    return unmatched + [
        f"{name} (PyTorch)" for name, has in has_weights.items() if has and name not in matched
    ]
