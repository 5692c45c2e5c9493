"""Run a linen module and a PyTorch module, and record the outputs of their submodules."""

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from aff_jax.convert.prefixes import rename_prefixes
from aff_jax.inspection import ModulePath

__all__ = ["Activation", "run_linen", "run_torch"]


class Activation(NamedTuple):
    """Output of one call of a linen submodule.

    Attributes:
        path: Path of the submodule. If it returns several arrays, the position of this one follows
            as "[0]", "[1]" and so on.
        number: Number of the call of this submodule, starting at 1.
        output: The output.
    """

    path: ModulePath
    number: int
    output: np.ndarray


def run_linen(
    module: nn.Module, variables: Mapping[str, Any], inputs: Sequence[Any]
) -> list[Activation]:
    """Run a linen module and record the outputs of all submodules.

    Args:
        module: The module.
        variables: Variables of the module.
        inputs: Inputs of the module.

    Returns:
        Activations in the order in which the calls end. The output of `module` is the last one.
    """
    paths: list[ModulePath] = []

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
    numbers: Counter[ModulePath] = Counter()
    calls = []
    for path, output in zip(paths, outputs, strict=True):
        numbers[path] += 1
        calls.append(Activation(path, numbers[path], output))
    return calls


def run_torch(
    module: Any, inputs: Sequence[np.ndarray], dtype: str, rename: Mapping[str, str]
) -> tuple[dict[tuple[str, int], np.ndarray], dict[str, bool]]:
    """Run a copy of a PyTorch module in evaluation mode and record the outputs of all submodules.

    Args:
        module: The module. It is not changed.
        inputs: Arrays of dtype `dtype`, channels last. Other values are passed on unchanged.
        dtype: "float32" or "float64", the dtype of the copy.
        rename: New prefixes by prefix of the names of submodules.

    Returns:
        Outputs, channels last, by name of the submodule and number of the call; and for each name,
        True if the submodule itself has weights.

    Raises:
        ImportError: If PyTorch is not installed.
    """
    import torch

    submodules = {name: name for name, _ in module.named_modules() if name}
    renamed = rename_prefixes(submodules, rename, strict=False)
    names = {old: new for new, old in renamed.items()}
    # The linen network is compared with the whole module, unless `rename` maps a submodule to "".
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
        # Copy: NumPy views of JAX arrays are read-only, and PyTorch needs writable memory.
        return torch.from_numpy(np.array(_channels_first(x), order="C"))

    module = copy.deepcopy(module).to("cpu", getattr(torch, dtype)).eval()
    for name, submodule in module.named_modules():
        submodule.register_forward_hook(hook(names[name]))
    with torch.no_grad():
        module(*map(as_tensor, inputs))
    has_weights = {names[n]: bool(submodule._parameters) for n, submodule in module.named_modules()}
    return outputs, has_weights | {name: False for name, _ in outputs if name not in has_weights}


def _channels_last(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, 1, -1) if array.ndim > 2 else array


def _channels_first(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, -1, 1) if array.ndim > 2 else array
