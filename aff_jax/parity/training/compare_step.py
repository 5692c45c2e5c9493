"""Compare the training of a PyTorch module and of a linen module, step by step.

Both sides start from the same weights and take the same steps. Losses, gradients, running
statistics, the moments of the optimizer and the updated weights are compared under PyTorch's names.

Each side is trained a second time from weights that are changed by one unit in the last place. This
measures the effect of rounding. An array differs if its difference exceeds
`STEP_MULTIPLE_OF_NOISE` times this effect on either side, and `STEP_SHARE_OF_LARGEST` times the
largest value of the array.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from aff_jax.convert.entries import UNREAD
from aff_jax.convert.mapping import list_entries
from aff_jax.convert.packed_forms import select_forms
from aff_jax.convert.packing import list_forms
from aff_jax.convert.prefixes import Rename
from aff_jax.convert.pytorch import from_torch
from aff_jax.convert.rules import PYTORCH
from aff_jax.inspection import inspect_module
from aff_jax.parity.arguments import check_arguments
from aff_jax.parity.recording.inputs import as_dtype, enable_dtype, perturb
from aff_jax.parity.recording.nnx_recording import is_nnx
from aff_jax.parity.recording.torch_network import TorchNetwork
from aff_jax.parity.recording.torch_recording import list_reparametrized
from aff_jax.parity.training.causes import explain_steps
from aff_jax.parity.training.linen_steps import LinenTraining, bind_training_arguments
from aff_jax.parity.training.optimizer_causes import list_some
from aff_jax.parity.training.packed_arrays import Packing
from aff_jax.parity.training.record import TrainingStep
from aff_jax.parity.training.samples import Samples
from aff_jax.parity.training.step_parity import StepParity, StepRow
from aff_jax.parity.training.torch_names import list_names, list_tied, match_names
from aff_jax.parity.training.torch_steps import TorchTraining

__all__ = ["STEP_MULTIPLE_OF_NOISE", "STEP_SHARE_OF_LARGEST", "compare_step"]

STEP_MULTIPLE_OF_NOISE = 32
"""Allowed difference of two arrays, as a multiple of the measured effect of rounding."""

STEP_SHARE_OF_LARGEST = {"float32": 2e-6, "float64": 1e-12}
"""Allowed difference as a share of the largest value of the array, by dtype."""

_MIN_SCALE = 1e-3
"""Smallest scale of a difference, relative to the largest array of the same kind.

The gradient of a bias in front of a batch norm is zero by construction. Its computed value is the
rounding error of larger terms, so it is not compared relative to itself.
"""


def compare_step(
    torch_module: Any,
    module: nn.Module,
    variables: Mapping[str, Any] | None = None,
    *inputs: Any,
    loss: Callable[[Any], Any],
    torch_loss: Callable[[Any], Any],
    optimizer: Any,
    torch_optimizer: Callable[[list[Any]], Any],
    steps: int = 3,
    float64: bool = False,
    torch_inputs: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    rename: Rename | None = None,
    ignore: Sequence[str] = (),
    layout: str | None = None,
) -> StepParity:
    """Train both modules on one batch and compare every array of every step.

    Weights under `weight_norm` and the like are replaced by plain weights of the same values, and
    the gradients, moments and updates of these are compared. PyTorch's own training changes what
    the weights are computed from instead, so such a comparison is never `equal`.

    Args:
        torch_module: PyTorch module. A copy is trained, in training mode.
        module: Linen module.
        variables: Initial variables of `module`. None converts them from `torch_module`.
        *inputs: Inputs of `module`, channels last.
        loss: Function of the outputs of `module` that returns a scalar, such as
            `lambda outputs: jnp.mean((outputs - targets) ** 2)`.
        torch_loss: The same for the outputs of `torch_module`, which are tensors.
        optimizer: Optax gradient transformation.
        torch_optimizer: Function of the list of parameters that returns a PyTorch optimizer, such
            as `lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)`.
        steps: Number of steps. A wrong momentum shows in the second one only.
        float64: Train in float64 instead of float32, which separates mistakes from rounding errors.
        torch_inputs: Inputs of `torch_module`, if they are not `inputs`.
        kwargs: Keyword arguments of `module`. By default, an argument of `__call__` that is named
            `train`, `training`, `is_training`, `deterministic`, `inference` or
            `use_running_average` is set for training.
        rename: New names for those in `torch_module`, as in `from_torch`.
        ignore: Names of weights and buffers of `torch_module` without a counterpart, as in
            `from_torch`.
        layout: Layout of the inputs of `torch_module`, as in `compare`. None tries all, and takes
            the one that PyTorch accepts and whose first outputs fit best.

    Returns:
        The compared arrays, and an explanation of the differences.

    Raises:
        TypeError: If an optimizer or a module is of the wrong kind.
        ValueError: If the weights do not match the module, the networks share no name, a loss is
            not a scalar, a network draws random numbers, or `steps` is less than 1.
    """
    if steps < 1:
        raise ValueError(f"expected at least 1 step, got steps={steps}. A wrong momentum needs 2.")
    check_arguments(torch_module, module, variables, None, (inputs, kwargs))
    if is_nnx(module):
        raise TypeError(
            "expected a linen module, got an NNX module, which compare_step cannot train."
        )
    dtype = "float64" if float64 else "float32"
    with enable_dtype(dtype):
        inputs, torch_inputs = as_dtype((inputs, torch_inputs), dtype)
        arguments, keywords = bind_training_arguments(module, inputs, kwargs)
        structure = inspect_module(module, arguments, kwargs=keywords)
        entries = list_entries(structure, PYTORCH)
        network = TorchNetwork(torch_module, dtype, rename=None, folds=True)
        renamed = list_names(network.module, rename)
        packing = Packing(select_forms(list_forms(structure), renamed))
        read = packing.to_torch_names([e.name for e in entries if e.collection != UNREAD])
        if variables is None:
            widened = float64 and hasattr(module, "param_dtype")
            wide = module.clone(param_dtype=jnp.float64) if widened else module
            state = network.module.state_dict()
            variables = from_torch(
                state,
                wide,
                *arguments,
                kwargs=keywords,
                rename=rename,
                ignore=[*ignore, *list_tied(state, renamed, read)],
            )
        variables = jax.tree.map(jnp.asarray, as_dtype(dict(variables), dtype))
        names = match_names(read, renamed)
        jax_training = LinenTraining(
            module, arguments, keywords, loss, optimizer, entries, names, packing
        )
        torch_training = TorchTraining(
            network,
            inputs,
            torch_inputs,
            torch_loss,
            torch_optimizer,
            names.values(),
            layout=layout,
            expected=jax_training.first_outputs(variables) if torch_inputs is None else (),
        )
        perturbed = {**variables, "params": perturb(variables["params"])}
        samples, rows = Samples(summed={names[n] for n in packing.summed if n in names}), []
        runs = zip(
            torch_training.run(steps),
            jax_training.run(variables, steps),
            torch_training.run(steps, perturbed=True),
            jax_training.run(perturbed, steps),
            strict=True,
        )
        for number, (torch_step, jax_step, torch_perturbed, jax_perturbed) in enumerate(runs):
            sides = [
                _add_biases(torch_step, names, packing),
                jax_step,
                _add_biases(torch_perturbed, names, packing),
                jax_perturbed,
            ]
            samples.add(sides[0], sides[1])
            compared = _compare_steps(number, sides, STEP_SHARE_OF_LARGEST[dtype], samples)
            # Before the first step, only mistakes are of interest.
            rows += [row for row in compared if number or row.differs]
    samples.settings = torch_training.settings
    samples.optimizer_name = torch_training.optimizer_name
    samples.norm_momenta = torch_training.norm_momenta()
    samples.tied, samples.padding = torch_training.tied_weights(), torch_training.padding_rows()
    differs = any(row.differs for row in rows)
    explanation = explain_steps(samples, rows, dtype) if differs else ""
    notes = _list_notes(torch_training, samples)
    unmatched = [
        n for n, has in torch_training.has_gradient.items() if has and n not in torch_training.names
    ]
    unmatched += [f"{name} (JAX)" for name in read if name not in names]
    folded = list_reparametrized(torch_module)
    return StepParity(rows, dtype, steps, explanation, notes, unmatched, folded)


def _add_biases(step: TrainingStep, names: Mapping[str, str], packing: Packing) -> TrainingStep:
    """Add the biases of PyTorch that belong to one bias of JAX."""
    if not packing.summed:
        return step
    new_names = {n: step.weights[old] for n, old in names.items() if old in step.weights}
    added = {names[new]: array for new, array in packing.add_biases(new_names).items()}
    return dataclasses.replace(step, weights=added)


def _compare_steps(
    number: int, sides: Sequence[TrainingStep], share: float, samples: Samples
) -> Iterator[StepRow]:
    """Compare one step of PyTorch and JAX. The other two sides are these with perturbed weights.

    Weights whose gradients are rounding errors are added to `samples.rounding_only`. The rows of
    their moments and weights, here and in later steps, allow for it.
    """
    torch_step, jax_step = sides[:2]
    if number:
        losses = [np.asarray(side.loss) for side in sides]
        yield _compare(number, "loss", "", losses, share, 0.0)
    scale = _MIN_SCALE * _largest(torch_step.gradients.values())
    for name in (name for name in torch_step.gradients if name in jax_step.gradients):
        arrays = [side.gradients.get(name) for side in sides]
        if arrays[0] is not None:
            row = _compare(number, "gradient", name, arrays, share, scale)
            size = _largest(arrays[:2])
            # Rounding changes the gradient by about its size.
            if 0 < size < scale and row.allowed_abs > STEP_MULTIPLE_OF_NOISE / 10 * size:
                samples.rounding_only.add(name)
            yield row
        elif name not in samples.summed:  # the other bias of the sum may have the gradient
            value = _largest(arrays[1:2])
            kind = "zero" if value == 0 else f"up to {value:.1e}"
            note = f"no gradient in PyTorch, {kind} in JAX"
            # A gradient that changes no weight is not a mistake.
            allowed = 0.0 if samples.is_updated(name) else np.inf
            yield StepRow(number, "gradient", name, value, value and 1.0, allowed, note)
    fields = {"statistic": "statistics", "moment": "optimizer_state", "weight": "weights"}
    for kind, field in fields.items():
        of_sides = [getattr(side, field) for side in sides]
        scales: dict[str, float] = {}
        for name, array in of_sides[0].items():
            leaf = name.rpartition(".")[2] if kind != "weight" else ""
            scales[leaf] = max(scales.get(leaf, 0.0), _MIN_SCALE * _largest([array]))
        for name in of_sides[0]:
            if all(name in arrays for arrays in of_sides):
                leaf = name.rpartition(".")[2] if kind != "weight" else ""
                arrays = [arrays[name] for arrays in of_sides]
                row = _compare(number, kind, name, arrays, share, scales[leaf])
                yield samples.excuse_rounding(row, 64 * share)


def _compare(
    number: int,
    kind: str,
    name: str,
    arrays: Sequence[Any],
    share: float,
    least: float,
) -> StepRow:
    """Compare PyTorch's array and JAX's, followed by those with perturbed weights."""
    torch_array, jax_array, torch_perturbed, jax_perturbed = (
        np.asarray(a, np.float64) for a in arrays
    )
    with np.errstate(invalid="ignore"):
        difference = _largest([jax_array - torch_array])
        rounding = max(
            _largest([torch_perturbed - torch_array]), _largest([jax_perturbed - jax_array])
        )
    scale = max(_largest([torch_array]), least)
    allowed = max(share * scale, STEP_MULTIPLE_OF_NOISE * rounding)
    return StepRow(number, kind, name, difference, difference / (scale or 1.0), allowed)


def _largest(arrays: Any) -> float:
    """Return the largest absolute value of some arrays, or NaN if there is one."""
    sizes = [float(np.max(np.abs(a), initial=0)) for a in arrays if a is not None]
    return max(sizes, default=0.0) if not np.isnan(sizes).any() else np.nan


def _list_notes(torch_training: TorchTraining, samples: Samples) -> list[str]:
    """List remarks on what was not compared and on gradients that are rounding errors."""
    notes = []
    unread = [
        n
        for n, has in torch_training.has_gradient.items()
        if not has and n not in torch_training.names
    ]
    if unread:
        notes.append(
            f"Not compared: weights of PyTorch that the linen module does not have and that have "
            f"no gradient, so nothing reads them: {len(unread)} {list_some(unread)}."
        )
    if samples.unmatched_states:
        notes.append(
            f"Not compared: the optimizer states {', '.join(sorted(samples.unmatched_states))}, "
            f"which only one side has or keeps under this name."
        )
    if samples.rounding_only:
        names = sorted(samples.rounding_only)
        notes.append(
            f"The gradients of some weights are rounding errors, probably because they are zero by "
            f"construction: {len(names)} {list_some(names)}."
        )
    return notes
