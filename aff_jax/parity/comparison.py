"""Layer-by-layer comparison of a PyTorch network and ours, on the same weights and input.

Both run once. Whatever has a name on both sides, by the same rules that weights are converted
with, is lined up in the order in which it ran here, and the first that parts is named.
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

from aff_jax.convert.mapping import renamed
from aff_jax.convert.pytorch import from_torch
from aff_jax.convert.rules import PYTORCH
from aff_jax.inspection import Path, inspect_module

__all__ = ["Parity", "Row", "compare"]

TOLERANCES = {"float32": 1e-4, "float64": 1e-9}
"""Default largest error, as a share of the layer's largest value: sums of thousands of products in
another order keep four of float32's seven digits through a hundred layers, nine of float64's 16."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One activation on both sides.

    `name` is PyTorch's and `path` ours, `call` the number of the call from 1; `shape` is ours,
    channels last. `max_abs` is the largest absolute difference and `max_rel` that over the largest
    absolute value in PyTorch; both None where there is nothing to compare, and `note` says why.
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
    """Outcome of a comparison.

    `rows` in the order of our network, the output last; `alone`, the layers with weights, on either
    side, that have no counterpart and so were not compared; `dtype` and `tolerance`, its terms.
    """

    rows: Sequence[Row]
    dtype: str
    tolerance: float
    unmatched: Sequence[str] = ()

    def differs(self, row: Row) -> bool:
        """Whether a row is beyond the tolerance; NaN is."""
        return row.note != "" or row.max_rel is None or not row.max_rel <= self.tolerance

    @property
    def first_mismatch(self) -> Row | None:
        """The first row beyond the tolerance; None where the networks are the same."""
        return next((row for row in self.rows if self.differs(row)), None)

    @property
    def equal(self) -> bool:
        """Whether the outputs were compared, and all rows are within the tolerance."""
        compared = any(row.path.partition("[")[0] == "" for row in self.rows)
        return compared and self.first_mismatch is None


def compare(
    torch_module: Any,
    module: nn.Module,
    variables: Mapping[str, Any] | None,
    *inputs: Any,
    float64: bool = False,
    tolerance: float | None = None,
    rename: Mapping[str, str] | None = None,
) -> Parity:
    """Run both networks in evaluation mode on the same input and compare every activation.

    `variables` are those of `module`; None converts them from `torch_module`. `inputs` are ours,
    channels last. `float64` runs both in double precision, which tells whether the mapping is right
    where rounding could hide it. `tolerance` is relative to each layer's largest value. `rename` is
    as in `from_torch`.

    Raises:
        ValueError: the weights do not fit the module, or the networks have no layer in common.
    """
    if getattr(module, "remat", False):
        module = module.clone(remat=False)  # no gradient is taken, and its insides can't be seen
    dtype = "float64" if float64 else "float32"
    if tolerance is not None and not tolerance >= 0:
        raise ValueError(f"expected a tolerance of at least 0, got {tolerance}.")
    with jax.enable_x64(float64):
        inputs = tuple(_as_float(x, dtype) for x in inputs)
        if variables is None:
            wide = module.clone(param_dtype=jnp.float64) if _widens(module, float64) else module
            variables = from_torch(torch_module.state_dict(), wide, *inputs, rename=rename)
        ours = _run_ours(module, _cast(variables, dtype), inputs)
        structure = inspect_module(module, inputs)
    theirs, existing = _run_theirs(torch_module, inputs, dtype, rename or {})

    def name_of(path: Path) -> str:
        part = path[-1] if path and path[-1].startswith("[") else ""
        return PYTORCH.name_of(path[: len(path) - bool(part)], structure) + part

    rows = _line_up(ours, theirs, set(existing), name_of)
    if any(row.max_abs is not None and 0 in row.shape for row in rows):
        raise ValueError("expected inputs of at least one value each, got empty ones.")
    if not any(row.max_abs is not None for row in rows):
        expected = sorted({PYTORCH.name_of(call.path, structure) for call in ours})
        raise ValueError(
            "the networks have no layer in common. PyTorch's modules are "
            f"{', '.join(sorted(existing)[:8])} ...; by the rules they are expected to be "
            f"{', '.join(expected[:8])} ... Probably the names have another prefix: give `rename`."
        )
    compared = {row.name for row in rows}
    layers = {path[:-1] for path, _ in structure.leaves("params")}
    alone = [path for path in map("/".join, sorted(layers)) if path not in {r.path for r in rows}]
    alone += [
        f"{name} (PyTorch)"
        for name, weights in existing.items()
        if weights and name not in compared
    ]
    return Parity(rows, dtype, TOLERANCES[dtype] if tolerance is None else tolerance, alone)


class _Call(NamedTuple):
    """The output of the `number`-th call, from 1, of what is at `path`."""

    path: Path
    number: int
    output: np.ndarray


def _run_ours(
    module: nn.Module, variables: Mapping[str, Any], inputs: Sequence[Any]
) -> list[_Call]:
    """Outputs of all submodules and weights of all passes, in the order in which they are ready."""
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


def _run_theirs(
    module: Any, inputs: Sequence[np.ndarray], dtype: str, rename: Mapping[str, str]
) -> tuple[dict[tuple[str, int], np.ndarray], dict[str, bool]]:
    """Outputs of all PyTorch modules by name and number of the call; who has weights of its own."""
    import torch

    below = renamed(
        {name: name for name, _ in module.named_modules() if name}, rename, strict=False
    )
    names = {theirs: ours for ours, theirs in below.items()}
    # The whole stands beside the whole, unless a part of it was named as what is compared.
    names[""] = "(whole)" if "" in below else ""
    outputs: dict[tuple[str, int], np.ndarray] = {}
    numbers: Counter[str] = Counter()

    def hook(name: str) -> Callable[..., None]:
        def note(_module: Any, _inputs: Any, output: Any) -> None:
            tensors = [x for x in jax.tree.leaves(output) if isinstance(x, torch.Tensor)]
            numbers[name] += 1
            for index, tensor in enumerate(tensors):
                part = f"{name}[{index}]" if len(tensors) > 1 else name
                # A copy: the next layer may be a ReLU that writes over it.
                array = tensor.detach().cpu().numpy().copy()
                outputs[part, numbers[name]] = _channels_last(array)

        return note

    def as_tensor(x: Any) -> Any:
        if not isinstance(x, np.ndarray):
            return x
        return torch.from_numpy(np.ascontiguousarray(_channels_first(x)))

    module = copy.deepcopy(module).to("cpu", getattr(torch, dtype)).eval()
    for name, part in module.named_modules():
        part.register_forward_hook(hook(names[name]))
    with torch.no_grad():
        module(*map(as_tensor, inputs))
    weights = {names[name]: bool(part._parameters) for name, part in module.named_modules()}
    return outputs, weights | {name: False for name, _ in outputs if name not in weights}


def _line_up(
    ours: Sequence[_Call],
    theirs: Mapping[tuple[str, int], np.ndarray],
    existing: set[str],
    name_of: Callable[[Path], str],
) -> list[Row]:
    """A row for whatever ran here and has a name there, then what ran only there."""
    # A convolution and the ConvNorm around it may have one name: the reference means the inner one.
    innermost: dict[str, Path] = {}
    for call in ours:
        name = name_of(call.path)
        if name in existing:
            innermost[name] = max(innermost.get(name, call.path), call.path, key=len)

    rows = []
    for call in ours:
        name = name_of(call.path)
        if innermost.get(name) == call.path:
            rows.append(_row(name, call, theirs.get((name, call.number))))
    compared = {(row.name, row.call) for row in rows}
    rows += [
        Row(name, "/".join(innermost[name]), number, output.shape, None, None, "ran there only")
        for (name, number), output in theirs.items()
        if name in innermost and (name, number) not in compared
    ]
    return rows


def _row(name: str, call: _Call, theirs: np.ndarray | None) -> Row:
    path, shape = "/".join(call.path), call.output.shape
    if theirs is None:
        return Row(name, path, call.number, shape, None, None, "ran here only")
    if theirs.shape != shape:
        note = f"PyTorch's shape is {theirs.shape}"
        return Row(name, path, call.number, shape, None, None, note)
    wide = np.asarray(call.output, np.float64) - np.asarray(theirs, np.float64)
    max_abs = float(np.max(np.abs(wide), initial=0))
    largest = float(np.max(np.abs(theirs), initial=0))
    return Row(name, path, call.number, shape, max_abs, max_abs / (largest or 1.0))


def _channels_last(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, 1, -1) if array.ndim > 2 else array


def _channels_first(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, -1, 1) if array.ndim > 2 else array


def _as_float(x: Any, dtype: str) -> Any:
    """Floating-point arrays in the precision that is compared in; tokens and flags as they are."""
    if not hasattr(x, "dtype"):
        return x
    return np.asarray(x, dtype if jnp.issubdtype(x.dtype, jnp.floating) else None)


def _widens(module: nn.Module, float64: bool) -> bool:
    # With parameters in single precision, weights in double precision would lose digits.
    return float64 and hasattr(module, "param_dtype")


def _cast(variables: Mapping[str, Any], dtype: str) -> Any:
    return jax.tree.map(
        lambda leaf: jnp.asarray(_as_float(np.asarray(leaf), dtype)), dict(variables)
    )
