"""Compare the activations of a PyTorch module and a linen module.

Both modules run once, with the same weights and inputs. The rules that convert weights give the
PyTorch name of each linen module. Activations with the same name are compared in the order in which
the linen modules ran.
"""

import copy
import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from aff_jax.convert.prefixes import rename_prefixes
from aff_jax.convert.pytorch import from_torch
from aff_jax.convert.rules import PYTORCH
from aff_jax.inspection import Path, inspect_module

__all__ = ["Parity", "Row", "compare"]

TOLERANCES = {"float32": 1e-4, "float64": 1e-9}
"""Default tolerances, relative to the largest value of each layer.

Sums of thousands of products are rounded differently in another order. Through a hundred layers,
four of float32's seven digits stay the same, and nine of float64's 16.
"""

ONLY_FLAX = "called in Flax only"
ONLY_TORCH = "called in PyTorch only"


@dataclasses.dataclass(frozen=True)
class Row:
    """Comparison of one activation.

    Attributes:
        name: Name of the PyTorch module. Empty for the output of the whole network.
        path: Path of the linen module. Empty for the output of the whole network.
        call: Number of the call of this module, starting at 1.
        shape: Shape of the linen activation, channels last.
        max_abs: Largest absolute difference. None if the activations could not be compared.
        max_rel: `max_abs` divided by PyTorch's largest absolute value. None if `max_abs` is.
        note: Reason why the activations could not be compared.
    """

    name: str
    path: str
    call: int
    shape: tuple[int, ...]
    max_abs: float | None
    max_rel: float | None
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Parity:
    """Result of a comparison.

    Attributes:
        rows: Compared activations in the order of the linen network, the output last.
        dtype: Dtype that both networks ran in.
        tolerance: Largest allowed `max_rel` of a row.
        unmatched: Layers with weights, of either network, that have no counterpart in the other
            one. They were not compared.
    """

    rows: Sequence[Row]
    dtype: str
    tolerance: float
    unmatched: Sequence[str] = ()

    def differs(self, row: Row) -> bool:
        """Return whether a row exceeds the tolerance, is NaN, or could not be compared."""
        return row.note != "" or row.max_rel is None or not row.max_rel <= self.tolerance

    @property
    def first_mismatch(self) -> Row | None:
        """First row that differs, or None."""
        return next((row for row in self.rows if self.differs(row)), None)

    @property
    def equal(self) -> bool:
        """True if the outputs were compared and no row differs."""
        compared = any(row.path.partition("[")[0] == "" for row in self.rows)
        return compared and self.first_mismatch is None


def compare(
    torch_module: Any,
    module: nn.Module,
    variables: Mapping[str, Any] | None = None,
    *inputs: Any,
    float64: bool = False,
    tolerance: float | None = None,
    rename: Mapping[str, str] | None = None,
) -> Parity:
    """Run both modules in evaluation mode on the same inputs and compare every activation.

    Args:
        torch_module: PyTorch module. It is copied and not changed.
        module: Linen module.
        variables: Variables of `module`. None converts them from `torch_module`.
        *inputs: Inputs of `module`, channels last. `torch_module` gets them channels first.
        float64: Run both modules in float64 instead of float32, which separates wrong weights from
            rounding errors.
        tolerance: Largest allowed difference, relative to the largest value of each layer. The
            default is 1e-4 in float32 and 1e-9 in float64.
        rename: New prefixes by the prefixes in `torch_module`, as in `from_torch`.

    Returns:
        The compared activations.

    Raises:
        ValueError: The weights do not match the module, the networks have no layer in common, or
            the inputs are empty.
    """
    if getattr(module, "remat", False):
        # Activations inside rematerialized blocks can't be intercepted. Without a gradient,
        # rematerialization changes nothing.
        module = module.clone(remat=False)
    dtype = "float64" if float64 else "float32"
    if tolerance is not None and not tolerance >= 0:
        raise ValueError(f"expected a tolerance of at least 0, got {tolerance}.")
    with jax.enable_x64(float64):
        inputs = tuple(_as_float(x, dtype) for x in inputs)
        if variables is None:
            # With float32 parameters, float64 weights would lose digits.
            widened = float64 and hasattr(module, "param_dtype")
            wide = module.clone(param_dtype=jnp.float64) if widened else module
            variables = from_torch(torch_module.state_dict(), wide, *inputs, rename=rename)
        calls = _run_linen(module, _cast(variables, dtype), inputs)
        structure = inspect_module(module, inputs)
    torch_outputs, has_weights = _run_torch(torch_module, inputs, dtype, rename or {})

    def name_of(path: Path) -> str:
        index = path[-1] if path and path[-1].startswith("[") else ""
        return PYTORCH.name_of(path[: len(path) - bool(index)], structure) + index

    rows = _match(calls, torch_outputs, set(has_weights), name_of)
    if any(row.max_abs is not None and 0 in row.shape for row in rows):
        raise ValueError("expected inputs with at least one value each, got an empty array.")
    if not any(row.max_abs is not None for row in rows):
        expected = sorted({PYTORCH.name_of(call.path, structure) for call in calls})
        raise ValueError(
            "the networks have no layer in common. PyTorch's modules are "
            f"{', '.join(sorted(has_weights)[:8])} ...; the rules for names expect "
            f"{', '.join(expected[:8])} ... Probably the names have another prefix: pass `rename`."
        )
    matched = {row.name for row in rows}
    layers = {path[:-1] for path, _ in structure.leaves("params")}
    paths = {row.path for row in rows}
    unmatched = [path for path in map("/".join, sorted(layers)) if path not in paths]
    unmatched += [
        f"{name} (PyTorch)" for name, has in has_weights.items() if has and name not in matched
    ]
    return Parity(rows, dtype, TOLERANCES[dtype] if tolerance is None else tolerance, unmatched)


class _Call(NamedTuple):
    """Output of one call of the module at `path`; `number` counts its calls from 1."""

    path: Path
    number: int
    output: np.ndarray


def _run_linen(
    module: nn.Module, variables: Mapping[str, Any], inputs: Sequence[Any]
) -> list[_Call]:
    """Return the outputs of all submodules and the weights of all passes, in order of execution."""
    paths: list[Path] = []

    @jax.jit
    def run(variables: Mapping[str, Any]) -> list[Any]:
        outputs = []

        def note(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            output = call(*args, **kwargs)
            if context.method_name != "__call__":
                return output
            path = tuple(context.module.path)
            leaves = [leaf for leaf in jax.tree.leaves(output) if hasattr(leaf, "dtype")]
            for index, leaf in enumerate(leaves):
                paths.append((*path, f"[{index}]") if len(leaves) > 1 else path)
                outputs.append(leaf)
            return output

        with nn.intercept_methods(note):
            module.apply(variables, *inputs)
        return outputs

    with jax.default_matmul_precision("highest"):
        outputs = jax.device_get(run(variables))
    numbers: Counter[Path] = Counter()
    calls = []
    for path, output in zip(paths, outputs, strict=True):
        numbers[path] += 1
        calls.append(_Call(path, numbers[path], output))
    return calls


def _run_torch(
    module: Any, inputs: Sequence[np.ndarray], dtype: str, rename: Mapping[str, str]
) -> tuple[dict[tuple[str, int], np.ndarray], dict[str, bool]]:
    """Run a copy of the PyTorch module.

    Returns:
        Outputs by name and number of the call, and for each name whether the module has weights.
    """
    import torch

    submodules = {name: name for name, _ in module.named_modules() if name}
    renamed = rename_prefixes(submodules, rename, strict=False)
    names = {old: new for new, old in renamed.items()}
    # The linen network is compared with the whole module, unless a submodule was renamed to "".
    names[""] = "(whole)" if "" in renamed else ""
    outputs: dict[tuple[str, int], np.ndarray] = {}
    numbers: Counter[str] = Counter()

    def hook(name: str) -> Callable[..., None]:
        def note(_module: Any, _inputs: Any, output: Any) -> None:
            tensors = [x for x in jax.tree.leaves(output) if isinstance(x, torch.Tensor)]
            numbers[name] += 1
            for index, tensor in enumerate(tensors):
                key = f"{name}[{index}]" if len(tensors) > 1 else name
                # Copy: the next layer may work in place.
                array = tensor.detach().cpu().numpy().copy()
                outputs[key, numbers[name]] = _channels_last(array)

        return note

    def as_tensor(x: Any) -> Any:
        if not isinstance(x, np.ndarray):
            return x
        return torch.from_numpy(np.ascontiguousarray(_channels_first(x)))

    module = copy.deepcopy(module).to("cpu", getattr(torch, dtype)).eval()
    for name, submodule in module.named_modules():
        submodule.register_forward_hook(hook(names[name]))
    with torch.no_grad():
        module(*map(as_tensor, inputs))
    has_weights = {names[n]: bool(submodule._parameters) for n, submodule in module.named_modules()}
    return outputs, has_weights | {name: False for name, _ in outputs if name not in has_weights}


def _match(
    calls: Sequence[_Call],
    torch_outputs: Mapping[tuple[str, int], np.ndarray],
    torch_names: set[str],
    name_of: Callable[[Path], str],
) -> list[Row]:
    """Return a row per linen call that has a name in PyTorch, then the calls of PyTorch only."""
    # A convolution and the ConvNorm that contains it may have the same PyTorch name, which is that
    # of the convolution.
    innermost: dict[str, Path] = {}
    for call in calls:
        name = name_of(call.path)
        if name in torch_names:
            innermost[name] = max(innermost.get(name, call.path), call.path, key=len)

    rows = []
    for call in calls:
        name = name_of(call.path)
        if innermost.get(name) == call.path:
            rows.append(_compare_call(name, call, torch_outputs.get((name, call.number))))
    compared = {(row.name, row.call) for row in rows}
    rows += [
        Row(name, "/".join(innermost[name]), number, output.shape, None, None, ONLY_TORCH)
        for (name, number), output in torch_outputs.items()
        if name in innermost and (name, number) not in compared
    ]
    return rows


def _compare_call(name: str, call: _Call, torch_output: np.ndarray | None) -> Row:
    path, shape = "/".join(call.path), call.output.shape
    if torch_output is None:
        return Row(name, path, call.number, shape, None, None, ONLY_FLAX)
    if torch_output.shape != shape:
        note = f"PyTorch's shape is {torch_output.shape}"
        return Row(name, path, call.number, shape, None, None, note)
    difference = np.asarray(call.output, np.float64) - np.asarray(torch_output, np.float64)
    max_abs = float(np.max(np.abs(difference), initial=0))
    largest = float(np.max(np.abs(torch_output), initial=0))
    return Row(name, path, call.number, shape, max_abs, max_abs / (largest or 1.0))


def _channels_last(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, 1, -1) if array.ndim > 2 else array


def _channels_first(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, -1, 1) if array.ndim > 2 else array


def _as_float(x: Any, dtype: str) -> Any:
    """Convert floating-point arrays to `dtype`; leave integer arrays and flags as they are."""
    if not hasattr(x, "dtype"):
        return x
    return np.asarray(x, dtype if jnp.issubdtype(x.dtype, jnp.floating) else None)


def _cast(variables: Mapping[str, Any], dtype: str) -> Any:
    return jax.tree.map(
        lambda leaf: jnp.asarray(_as_float(np.asarray(leaf), dtype)), dict(variables)
    )
