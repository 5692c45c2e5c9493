"""Compare the activations of a PyTorch module and a linen module.

Both modules run with the same weights and inputs. The rules that convert weights give the PyTorch
name of each linen module. Activations with the same name are compared in the order in which the
linen modules ran.
"""

import copy
import dataclasses
import difflib
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from aff_jax.convert.mapping import list_entries
from aff_jax.convert.prefixes import rename_prefixes
from aff_jax.convert.pytorch import from_torch
from aff_jax.convert.rules import PYTORCH
from aff_jax.inspection import Structure, inspect_module
from aff_jax.parity.explanation import Evidence, explain, explain_one_sided
from aff_jax.parity.inputs import (
    as_dtype,
    has_floats,
    list_torch_inputs,
    move_by_ulp,
    with_evaluation_flags,
)
from aff_jax.parity.layouts import align
from aff_jax.parity.nnx_recording import inspect_nnx, is_nnx, record_nnx, state_of_nnx
from aff_jax.parity.recording import Call, Inputs, copy_torch, is_array, record_linen, record_torch
from aff_jax.parity.relations import Earlier
from aff_jax.parity.rows import Output, Pair, Row, compare_outputs, list_outputs

__all__ = ["Parity", "compare"]

WHOLE = "(whole)"
"""Name of the whole PyTorch module where `rename` maps a submodule to the empty name."""

MOST_NAMES = 8
"""Number of names that an error lists."""

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
    """

    rows: Sequence[Row]
    dtype: str
    tolerance: float | None = None
    unmatched: Sequence[str] = ()
    explanation: str = ""

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
    each network runs again with its input moved by one unit in the last place, and PyTorch's with
    those of its submodules as well. The allowed difference is 50 times the larger one of the two
    changes, and at least 64 units in the last place of the largest value of the layer.

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
        rename: New prefixes by the prefixes in `torch_module`, as in `from_torch`.
        kwargs: Keyword arguments of `module`. Arguments such as `train` that have no default are
            set for evaluation.
        torch_inputs: Inputs of `torch_module`, in PyTorch's layout. None gives it `inputs`.
        torch_kwargs: Keyword arguments of `torch_module`. None gives it the arrays of `kwargs`.
        layout: Layout of the inputs of `torch_module` with more than two axes: "channels_first"
            moves the last axis behind the first one, "sequence_first" swaps the first two, "same"
            leaves them. None tries all, and takes the one that PyTorch accepts and that fits best.
            With `torch_inputs` it is "same".

    Returns:
        The compared activations, in the order in which the linen modules ran.

    Raises:
        TypeError: If a module is not one of its framework.
        ValueError: If the weights do not match the module, the networks have no layer in common,
            an input is empty, PyTorch's forward raises, or `tolerance` is negative.
    """
    _check(torch_module, module, variables, tolerance, (inputs, kwargs))
    record = record_nnx if is_nnx(module) else record_linen
    if not is_nnx(module) and getattr(module, "remat", False):
        # In evaluation, rematerialization changes nothing.
        module = module.clone(remat=False)
    dtype = "float64" if float64 else "float32"
    ours_in = with_evaluation_flags(module, Inputs(*as_dtype((inputs, dict(kwargs or {})), dtype)))
    if torch_inputs is not None:
        layout = layout or "same"
    arrays = {name: value for name, value in ours_in.kwargs.items() if _has_arrays(value)}
    theirs_in = Inputs(
        *as_dtype(
            (
                tuple(inputs if torch_inputs is None else torch_inputs),
                dict(arrays if torch_kwargs is None else torch_kwargs),
            ),
            dtype,
        )
    )
    torch_copy = copy_torch(torch_module, dtype)
    moves_inputs = has_floats(tuple(ours_in))
    with jax.enable_x64(float64):
        if is_nnx(module):
            structure, variables = inspect_nnx(module), state_of_nnx(module)
        else:
            structure = inspect_module(module, ours_in.args, kwargs=ours_in.kwargs)
        if variables is None:
            variables = _convert(torch_copy, module, ours_in, structure, rename)
        variables = as_dtype(jax.device_get(dict(variables)), dtype)
        moved = move_by_ulp(ours_in) if moves_inputs else ours_in
        moved_variables = variables if moves_inputs else move_by_ulp(variables)
        runs = record(module, [(variables, ours_in), (moved_variables, moved)])
    ours = list_outputs(*runs)

    names = _names_of_torch(torch_copy, rename)
    aliases = _aliases(torch_copy, names)

    @functools.cache
    def name_of(path: str) -> str:
        base, bracket, position = path.partition("[")
        name = PYTORCH.name_of(tuple(base.split("/")) if base else (), structure)
        return aliases.get(name, name) + bracket + position

    best = None
    failures = []
    has_1d = any(type(m).__name__.endswith("1d") for m in torch_copy.modules())
    for shapes, candidate in list_torch_inputs(theirs_in, layout, has_1d):
        try:
            theirs = _record_twice(torch_copy, candidate, names, moves_inputs)
        except Exception as error:  # the user's module may raise anything
            failures.append(f"  with {shapes}: {type(error).__name__}: {error}")
            continue
        pairs = compare_outputs(ours, theirs, name_of, set(names.values()), tolerance)
        result = Parity([pair.row for pair in pairs], dtype, tolerance)
        first = result.first_mismatch
        length = len(pairs) if first is None else result.rows.index(first)
        if best is None or length > best[0]:
            best = (length, result, pairs, candidate)
        if first is None:
            break
    if best is None:
        raise ValueError(
            "PyTorch's forward raised an error with every layout of the inputs:\n"
            + "\n".join(failures)
            + "\nPass `torch_inputs` and `torch_kwargs` as the module takes them."
        )
    _, result, pairs, torch_in = best
    has_weights = {names[n]: bool(m._parameters) for n, m in torch_copy.named_modules()}
    if not result.equal:
        layers = {path[:-1] for path, _ in structure.leaves("params")}
        expected = [name_of("/".join(path)) for path in sorted(layers)]
        _check_common_layers(result.rows, has_weights, expected)
    explanation = ""
    if result.first_mismatch is not None:
        with jax.enable_x64(float64):
            try:
                weights = _convert(torch_copy, module, ours_in, structure, rename)
            except ValueError:
                weights = {}  # the variables were given, and cannot be converted
            explanation = _explain(
                result,
                pairs,
                linen=(module, variables, ours_in, structure),
                torch=(torch_copy, weights, torch_in, names),
            )
    return dataclasses.replace(
        result,
        unmatched=_list_unmatched(result.rows, structure, has_weights),
        explanation=explanation,
    )


def _explain(
    result: Parity,
    pairs: Sequence[Pair],
    linen: tuple[nn.Module, Mapping[str, Any], Inputs, Structure],
    torch: tuple[Any, Mapping[str, Any], Inputs, Mapping[str, str]],
) -> str:
    """Record the inputs of the layer of the first mismatch, and explain it."""
    first = result.first_mismatch
    assert first is not None
    if first.is_one_sided:
        return explain_one_sided(first, result.rows)
    pair = next(pair for pair in pairs if pair.row is first)
    module, variables, inputs, structure = linen
    torch_copy, weights, torch_inputs, names = torch
    path = first.path.partition("[")[0].rstrip("/")
    name = first.name.partition("[")[0]
    old_name = next(old for old, new in names.items() if new == name)
    record = record_nnx if is_nnx(module) else record_linen
    (calls,) = record(module, [(variables, inputs)], inputs_of=(path,))
    torch_calls = record_torch(torch_copy, torch_inputs, inputs_of=(old_name,))
    at = tuple(path.split("/")) if path else ()
    layer = structure.layers.get(at)
    given = zip(_arrays(inputs), _arrays(torch_inputs), strict=False)
    aligned = [(ours, align(theirs, ours)) for ours, theirs in given]
    evidence = Evidence(
        pairs=pairs,
        inputs=[Earlier("the input", ours, a.array) for ours, a in aligned if a is not None],
        call=_select(calls, path, first.call),
        torch_call=_select(torch_calls, old_name, pair.torch_call),
        layer=None if layer is None else layer.module.clone(parent=None, name=None),
        torch_layer=torch_copy.get_submodule(old_name),
        variables={name: _subtree(tree, at) for name, tree in variables.items()},
        weights=_weights_by_layer(variables).get(path, {}),
        torch_weights=_weights_by_layer(weights),
    )
    return explain(first, evidence)


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


def _has_arrays(tree: Any) -> bool:
    """Return whether a tree has an array."""
    return any(is_array(leaf) for leaf in jax.tree.leaves(tree))


def _check(
    torch_module: Any, module: Any, variables: Any, tolerance: float | None, inputs: Any
) -> None:
    import torch

    is_flax = isinstance(torch_module, nn.Module) or is_nnx(torch_module)
    if is_flax and isinstance(module, torch.nn.Module):
        raise TypeError(
            "expected the PyTorch module first and the Flax module second, got them the other way "
            "round."
        )
    for given in (torch_module, module):
        if isinstance(given, type):
            raise TypeError(
                f"expected a module, got the class {given.__name__}. Make an instance of it."
            )
    if isinstance(torch_module, torch.jit.ScriptModule):
        raise TypeError(
            "expected a torch.nn.Module in Python, got a ScriptModule, whose submodules cannot be "
            "observed. Pass the module that it was made from."
        )
    if not isinstance(torch_module, torch.nn.Module):
        raise TypeError(
            f"expected a torch.nn.Module, got a {type(torch_module).__name__}. Pass the module "
            f"itself, not its state dict."
        )
    if not isinstance(module, nn.Module) and not is_nnx(module):
        raise TypeError(
            f"expected a flax.linen.Module or a flax.nnx.Module, got a {type(module).__name__}. "
            f"Pass the module itself, not its variables."
        )
    if variables is not None and not isinstance(variables, Mapping):
        raise TypeError(
            f"expected the variables of the module or None as the third argument, got a "
            f"{type(variables).__name__}. The inputs follow them: `compare(torch_module, module, "
            f"None, x)`."
        )
    if variables is not None and is_nnx(module):
        raise TypeError(
            "expected None as the third argument, since an NNX module carries its weights, got "
            "variables. Pass `compare(torch_module, module, None, x)`."
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
    torch_copy: Any,
    module: nn.Module,
    inputs: Inputs,
    structure: Structure,
    rename: Mapping[str, str] | None,
) -> Mapping[str, Any]:
    """Convert the weights of a PyTorch module, each tied one once unless both have it twice."""
    if is_nnx(module):
        return {}  # weights are not converted to NNX
    state = torch_copy.state_dict()
    expected = {entry.name for entry in list_entries(structure, PYTORCH)}
    if not state:
        if not expected:
            return {}
        raise ValueError(
            f"expected a PyTorch module with weights for the {len(expected)} variables of the "
            f"linen module, got one without any. Probably its layers are in a plain list: use "
            f"torch.nn.ModuleList. Or pass `variables`."
        )
    new_names = rename_prefixes({name: name for name in state}, rename)
    by_storage: dict[int, list[str]] = {}
    for new, old in new_names.items():
        if state[old].numel():
            by_storage.setdefault(state[old].data_ptr(), []).append(new)
    surplus = {
        new_names[name]
        for tied in by_storage.values()
        for name in tied
        if name not in expected and expected & set(tied)
    }
    kept = {name: value for name, value in state.items() if name not in surplus}
    # Float64 weights would lose digits in float32 parameters.
    is_wide = any(value.dtype.itemsize == 8 for value in kept.values() if value.is_floating_point())
    wide = is_wide and hasattr(module, "param_dtype")
    target = module.clone(param_dtype=jnp.float64) if wide else module
    return from_torch(kept, target, *inputs.args, kwargs=inputs.kwargs, rename=rename)


def _names_of_torch(torch_copy: Any, rename: Mapping[str, str] | None) -> dict[str, str]:
    """Return the new names of all submodules by their names."""
    modules = torch_copy.named_modules(remove_duplicate=False)
    submodules = {name: name for name, _ in modules if name}
    renamed = rename_prefixes(submodules, rename, strict=False)
    names = {old: new for new, old in renamed.items()}
    # The linen network is compared with the whole module, unless `rename` maps a submodule to "".
    names[""] = WHOLE if "" in renamed else ""
    return names


def _aliases(torch_copy: Any, names: Mapping[str, str]) -> dict[str, str]:
    """Return the first name of each submodule by its other names."""
    first = {id(module): names[name] for name, module in torch_copy.named_modules()}
    modules = torch_copy.named_modules(remove_duplicate=False)
    return {names[name]: first[id(module)] for name, module in modules}


def _record_twice(
    torch_copy: Any, inputs: Inputs, names: Mapping[str, str], moves_inputs: bool
) -> list[Output]:
    """Run a PyTorch module, and again with its input or weights moved."""
    calls = record_torch(torch_copy, inputs)
    if moves_inputs:
        moved = record_torch(torch_copy, move_by_ulp(inputs), moves=True)
    else:
        moved = record_torch(_move_weights(torch_copy), inputs, moves=True)
    renamed = [[call._replace(module=names[call.module]) for call in c] for c in (calls, moved)]
    return list_outputs(*renamed)


def _move_weights(torch_copy: Any) -> Any:
    """Copy a PyTorch module with every weight moved by one unit in the last place."""
    import torch

    module = copy.deepcopy(torch_copy)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.from_numpy(np.array(move_by_ulp(parameter.numpy()))))
    return module


def _check_common_layers(
    rows: Sequence[Row], has_weights: Mapping[str, bool], expected: Sequence[str]
) -> None:
    """Check that a layer was compared, if both networks have layers with weights."""
    names = [name for name, has in has_weights.items() if name and has]
    expected = [name for name in expected if name]
    if not (names and expected) or any(row.name and not row.is_one_sided for row in rows):
        return
    lines = []
    for name in expected[:MOST_NAMES]:
        near = difflib.get_close_matches(name, names, 1)
        lines.append(f"  {name}" + (f"   (nearest in PyTorch: {near[0]})" if near else ""))
    raise ValueError(
        f"expected layers of the same names in both networks, got none. The names of the "
        f"{len(expected)} layers of the Flax network in PyTorch are\n"
        + "\n".join(lines)
        + f"\nand PyTorch has {len(names)} others: {', '.join(names[:MOST_NAMES])}. Pass `rename` "
        f"with new prefixes for the names in PyTorch, such as rename={{{names[0]!r}: "
        f"{expected[0]!r}}}."
    )


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
