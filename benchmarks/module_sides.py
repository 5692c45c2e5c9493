"""The sides of `benchmarks.modules`: evaluation and training of a module in both frameworks."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch

import aff_jax
from aff_jax.inference.freezing import freeze
from benchmarks.timing import Side, check_equal
from benchmarks.torch_sides import (
    autocast,
    channels_first,
    channels_last,
    copies,
    synchronize,
    torch_dtype,
)
from tests.reference import torch_aff

__all__ = ["MODULES", "TOLERANCES", "Case", "chunk_size", "evaluation", "make_case", "training"]

CHUNK_BYTES = 2e6
"""Largest array of a chunk, so that a chunk stays in the cache."""

TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2}
"""Allowed difference by dtype, relative to the largest value of an array."""

# The running variance of PyTorch is unbiased.
NORM = partial(aff_jax.BatchNorm, unbiased_variance=True)
MODULES: dict[str, tuple[Callable[..., nn.Module], Callable[[int], torch.nn.Module], int]] = {
    "MSCAM": (partial(aff_jax.MSCAM, norm=NORM), torch_aff.MS_CAM, 1),
    "AFF": (partial(aff_jax.AFF, gain=2.0, norm=NORM), torch_aff.AFF, 2),
    "IAFF": (partial(aff_jax.IAFF, share_global=True, norm=NORM), torch_aff.iAFF, 2),
}
"""For each name, the linen module, the PyTorch module that it equals, and the number of inputs."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A module in both frameworks with the same weights, and its inputs.

    Attributes:
        name: Name in `MODULES`.
        shape: Shape of the inputs, `(batch, height, width, channels)`.
        dtype: Dtype of the computation.
        module: The linen module.
        variables: Its variables, converted from PyTorch.
        reference: Makes PyTorch's module with these weights.
        inputs: The inputs, float32.
        cotangent: Gradient of the output, for the backward pass, float32.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    module: nn.Module
    variables: dict[str, Any]
    reference: Callable[[], torch.nn.Module]
    inputs: list[np.ndarray]
    cotangent: np.ndarray

    @property
    def label(self) -> str:
        """Return name and shape, such as `AFF 32x16x16x256`."""
        return f"{self.name} {'x'.join(map(str, self.shape))}"

    def arrays(self) -> list[jax.Array]:
        """Return the inputs as new JAX arrays, which may be donated."""
        return [jnp.asarray(array, self.dtype) for array in self.inputs]


def make_case(name: str, shape: tuple[int, ...], dtype: str) -> Case:
    """Make a case with random inputs, and random values for the weights and statistics of norms.

    Args:
        name: Name in `MODULES`.
        shape: Shape of the inputs, `(batch, height, width, channels)`.
        dtype: "float32" or "bfloat16".

    Returns:
        The case.
    """
    make_module, make_reference, count = MODULES[name]
    torch.manual_seed(0)
    reference = make_reference(shape[-1])
    for layer in reference.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            _randomize(layer)
    state = {key: value.clone() for key, value in reference.state_dict().items()}

    def make_copy() -> torch.nn.Module:
        made = make_reference(shape[-1])
        made.load_state_dict(state)
        return made

    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(shape, np.float32) for _ in range(count)]
    module = make_module(dtype=None if dtype == "float32" else dtype)
    variables = dict(aff_jax.convert.from_torch(state, module, *inputs))
    variables.pop("unread", None)
    cotangent = rng.standard_normal(shape, np.float32)
    return Case(name, shape, dtype, module, variables, make_copy, inputs, cotangent)


def _randomize(norm: Any) -> None:
    """Replace the initial scale, bias and statistics of a PyTorch batch norm."""
    torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    torch.nn.init.normal_(norm.bias, std=0.2)
    torch.nn.init.normal_(norm.running_mean, std=0.2)
    torch.nn.init.uniform_(norm.running_var, 0.5, 1.5)


def chunk_size(shape: tuple[int, ...], devices: int, itemsize: int) -> int:
    """Return the number of examples per chunk, the largest whose array is below `CHUNK_BYTES`.

    It is at least one and divides the share of the batch of each device.
    """
    share = shape[0] // devices
    fitting = max(1, int(CHUNK_BYTES // (itemsize * math.prod(shape[1:]))))
    return max(n for n in range(1, share + 1) if share % n == 0 and n <= fitting)


def evaluation(case: Case, with_compiled: bool) -> tuple[dict[str, Side], float]:
    """Make the sides of evaluation and check that their outputs are equal.

    Args:
        case: The module and its inputs.
        with_compiled: Include torch.compile.

    Returns:
        Sides by name, and the largest relative difference of their outputs.

    Raises:
        ValueError: If a difference exceeds the tolerance.
    """
    sides: dict[str, Side] = {}
    outputs: dict[str, dict[str, np.ndarray]] = {}
    dtype = torch_dtype(case.dtype)

    # The other sides are compared with the first.
    for name, called, module, layout in copies(case.reference, with_compiled, dtype):
        module.eval()
        tensors = [channels_first(array, layout).to(dtype) for array in case.inputs]

        def call(called: Any = called, tensors: list[torch.Tensor] = tensors) -> torch.Tensor:
            with torch.inference_mode():
                result: torch.Tensor = called(*tensors)
                return result

        sides[name] = Side(call, synchronize)
        outputs[name] = {"output": channels_last(call())}

    devices = jax.devices()
    made: dict[str, tuple[Callable[..., jax.Array], bool]] = {
        "aff_jax": (partial(jax.jit(case.module.apply), case.variables), False),
        "frozen": (freeze(case.module, case.variables, *case.arrays(), dtype=case.dtype), False),
    }
    if devices[0].platform == "cpu" and len(devices) > 1 and case.shape[0] % len(devices) == 0:
        made[f"frozen, {len(devices)} devices"] = (
            freeze(
                case.module,
                case.variables,
                *case.arrays(),
                dtype=case.dtype,
                donate=True,
                devices=devices,
                chunk_size=chunk_size(case.shape, len(devices), jnp.dtype(case.dtype).itemsize),
            ),
            True,
        )
    for name, (function, donated) in made.items():
        result = function(*case.arrays())
        outputs[name] = {"output": np.asarray(result, np.float32)}
        placed = [jax.device_put(array, result.sharding) for array in case.arrays()]
        sides[name] = _donating_side(function, placed) if donated else _side(function, placed)
    return sides, check_equal(outputs, TOLERANCES[case.dtype], f"{case.label}, evaluation")


def _side(function: Callable[..., jax.Array], inputs: list[jax.Array]) -> Side:
    """Return the side of a function."""
    return Side(lambda: function(*inputs), jax.block_until_ready)


def _donating_side(function: Callable[..., jax.Array], inputs: list[jax.Array]) -> Side:
    """Return the side of a function that donates its first input: each call gets a new copy."""
    first, rest = inputs[0], inputs[1:]
    x = first

    def prepare() -> None:
        nonlocal x
        x = jax.block_until_ready(jnp.copy(first))

    return Side(lambda: function(x, *rest), jax.block_until_ready, prepare)


def training(case: Case, with_compiled: bool) -> tuple[dict[str, Side], float]:
    """Make the sides of training and check that their results are equal.

    Training is a forward and backward pass with gradients of parameters and inputs, and new
    running statistics.

    Args:
        case: The module and its inputs.
        with_compiled: Include torch.compile.

    Returns:
        Sides by name, and the largest relative difference of their results.

    Raises:
        ValueError: If a difference exceeds the tolerance.
    """
    sides: dict[str, Side] = {}
    outputs: dict[str, dict[str, np.ndarray]] = {}
    dtype = torch_dtype(case.dtype)
    for name, called, module, layout in copies(case.reference, with_compiled):
        module.train()
        tensors = [
            channels_first(array, layout).to(dtype).requires_grad_() for array in case.inputs
        ]
        cotangent = channels_first(case.cotangent, layout).to(dtype)

        def call(
            called: Any = called,
            module: torch.nn.Module = module,
            tensors: list[torch.Tensor] = tensors,
            cotangent: torch.Tensor = cotangent,
        ) -> torch.Tensor:
            module.zero_grad(set_to_none=True)
            for tensor in tensors:
                tensor.grad = None
            with autocast(case.dtype):
                result: torch.Tensor = called(*tensors)
            result.backward(cotangent)
            return result

        sides[name] = Side(call, synchronize)
        result = call()
        found = dict(module.state_dict())
        for key, parameter in module.named_parameters():
            found[key] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        found = {key: value.detach().float().cpu() for key, value in found.items()}
        # Gradients have the names and shapes of the parameters, so they are converted like them.
        converted = aff_jax.convert.from_torch(found, case.module, *case.inputs)
        inputs = [channels_last(tensor.grad) for tensor in tensors if tensor.grad is not None]
        outputs[name] = _arrays_to_compare(
            channels_last(result), inputs, converted["params"], converted
        )

    @jax.jit
    def forward_backward(
        variables: dict[str, Any], inputs: list[jax.Array], cotangent: jax.Array
    ) -> tuple[jax.Array, tuple[Any, list[jax.Array]], Any]:
        def forward(params: Any, inputs: list[jax.Array]) -> tuple[jax.Array, Any]:
            tree = {**variables, "params": params}
            output, new = case.module.apply(tree, *inputs, train=True, mutable=["batch_stats"])
            return output, new

        output, pull, new = jax.vjp(forward, variables["params"], inputs, has_aux=True)
        return output, pull(cotangent), new

    variables, arrays = case.variables, case.arrays()
    cotangent_array = jnp.asarray(case.cotangent, case.dtype)
    output, (gradients, input_gradients), new = forward_backward(variables, arrays, cotangent_array)
    outputs["aff_jax"] = _arrays_to_compare(output, input_gradients, gradients, new)
    sides["aff_jax"] = Side(
        lambda: forward_backward(variables, arrays, cotangent_array), jax.block_until_ready
    )
    return sides, check_equal(outputs, TOLERANCES[case.dtype], f"{case.label}, training")


def _arrays_to_compare(
    output: Any, inputs: list[Any], params: Any, variables: Any
) -> dict[str, np.ndarray]:
    """Concatenate the arrays of each kind.

    Differences are relative to the largest value of an array, and the gradient of a bias before a
    norm consists of rounding errors only.
    """

    def flat(tree: Any) -> np.ndarray:
        return np.concatenate([np.asarray(a, np.float32).ravel() for a in jax.tree.leaves(tree)])

    return {
        "output": flat(output),
        "gradients of the inputs": flat(inputs),
        "gradients of the parameters": flat(params),
        "running statistics": flat(variables["batch_stats"]),
    }
