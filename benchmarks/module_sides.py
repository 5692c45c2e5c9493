"""The sides of `benchmarks.modules`: evaluation and training of one module, in both frameworks."""

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
from benchmarks.torch_sides import channels_first, channels_last, copies, device, synchronize
from tests.reference import torch_aff

__all__ = ["MODULES", "TOLERANCES", "Case", "chunk_size", "evaluation", "make_case", "training"]

CHUNK_BYTES = 2e6
TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2}
"""Differences that are allowed, as a share of the largest value of an array."""

# PyTorch keeps n / (n - 1) times the batch's variance.
NORM = partial(aff_jax.BatchNorm, unbiased_variance=True)
MODULES: dict[str, tuple[Callable[..., nn.Module], Callable[[int], torch.nn.Module], int]] = {
    "MSCAM": (partial(aff_jax.MSCAM, norm=NORM), torch_aff.MS_CAM, 1),
    "AFF": (partial(aff_jax.AFF, gain=2.0, norm=NORM), torch_aff.AFF, 2),
    "IAFF": (partial(aff_jax.IAFF, share_global=True, norm=NORM), torch_aff.iAFF, 2),
}
"""Ours, as PyTorch's reference has it, that reference, and how many inputs they have."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A module at a shape: both frameworks' with one set of weights, and inputs as arrays."""

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
        """As in "AFF 32x16x16x256"."""
        return f"{self.name} {'x'.join(map(str, self.shape))}"

    def arrays(self) -> list[jax.Array]:
        """The inputs as JAX has them; new ones each time, which may be given away."""
        return [jnp.asarray(array, self.dtype) for array in self.inputs]

    @property
    def torch_dtype(self) -> torch.dtype:
        """PyTorch's word for the dtype."""
        found: torch.dtype = getattr(torch, self.dtype)
        return found


def make_case(name: str, shape: tuple[int, ...], dtype: str) -> Case:
    """Random weights and statistics, not the initial ones, and random inputs."""
    make_module, make_reference, count = MODULES[name]
    torch.manual_seed(0)
    reference = make_reference(shape[-1])
    for layer in reference.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            _randomise(layer)
    state = {key: value.clone() for key, value in reference.state_dict().items()}

    def fresh() -> torch.nn.Module:
        made = make_reference(shape[-1])
        made.load_state_dict(state)
        return made

    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(shape, np.float32) for _ in range(count)]
    module = make_module(dtype=None if dtype == "float32" else dtype)
    variables = dict(aff_jax.convert.from_torch(state, module, *inputs))
    variables.pop("unread", None)
    return Case(
        name, shape, dtype, module, variables, fresh, inputs, rng.standard_normal(shape, np.float32)
    )


def _randomise(norm: Any) -> None:
    torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    torch.nn.init.normal_(norm.bias, std=0.2)
    torch.nn.init.normal_(norm.running_mean, std=0.2)
    torch.nn.init.uniform_(norm.running_var, 0.5, 1.5)


def chunk_size(shape: tuple[int, ...], devices: int, itemsize: int) -> int:
    """Samples that a device takes at a time: as many as keep one array below `CHUNK_BYTES`.

    At least one, and a divisor of the device's part of the batch.
    """
    part = shape[0] // devices
    fitting = max(1, int(CHUNK_BYTES // (itemsize * math.prod(shape[1:]))))
    return max(n for n in range(1, part + 1) if part % n == 0 and n <= fitting)


def evaluation(case: Case, with_compiled: bool) -> tuple[dict[str, Side], float]:
    """The sides, and how far they are apart."""
    sides: dict[str, Side] = {}
    outputs: dict[str, dict[str, np.ndarray]] = {}

    # The first side is what the others are compared with.
    for name, called, module, layout in copies(case.reference, with_compiled, case.torch_dtype):
        module.eval()
        tensors = [channels_first(array, layout).to(case.torch_dtype) for array in case.inputs]

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
        sides[name] = _consuming(function, placed) if donated else _repeated(function, placed)
    return sides, check_equal(outputs, TOLERANCES[case.dtype], f"{case.label}, evaluation")


def _repeated(function: Callable[..., jax.Array], inputs: list[jax.Array]) -> Side:
    return Side(lambda: function(*inputs), jax.block_until_ready)


def _consuming(function: Callable[..., jax.Array], inputs: list[jax.Array]) -> Side:
    """Of a function that x is given away to: each call has a copy of its own, made before it."""
    first, rest = inputs[0], inputs[1:]
    x = first

    def prepare() -> None:
        nonlocal x
        x = jax.block_until_ready(jnp.copy(first))

    return Side(lambda: function(x, *rest), jax.block_until_ready, prepare)


def training(case: Case, with_compiled: bool) -> tuple[dict[str, Side], float]:
    """The sides, and how far they are apart; gradients of parameters and inputs, new statistics."""
    sides: dict[str, Side] = {}
    outputs: dict[str, dict[str, np.ndarray]] = {}
    for name, called, module, layout in copies(case.reference, with_compiled):
        module.train()
        tensors = [
            channels_first(array, layout).to(case.torch_dtype).requires_grad_()
            for array in case.inputs
        ]
        cotangent = channels_first(case.cotangent, layout).to(case.torch_dtype)

        def call(
            called: Any = called,
            module: torch.nn.Module = module,
            tensors: list[torch.Tensor] = tensors,
            cotangent: torch.Tensor = cotangent,
        ) -> torch.Tensor:
            module.zero_grad(set_to_none=True)
            for tensor in tensors:
                tensor.grad = None
            low = case.torch_dtype != torch.float32
            with torch.autocast(device().type, case.torch_dtype, enabled=low):
                result: torch.Tensor = called(*tensors)
            result.backward(cotangent)
            return result

        sides[name] = Side(call, synchronize)
        result = call()
        found = dict(module.state_dict())
        for key, parameter in module.named_parameters():
            found[key] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        found = {key: value.detach().float().cpu() for key, value in found.items()}
        ours = aff_jax.convert.from_torch(found, case.module, *case.inputs)
        inputs = [tensor.grad for tensor in tensors if tensor.grad is not None]
        outputs[name] = _gathered(
            channels_last(result), [channels_last(t) for t in inputs], ours["params"], ours
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
    outputs["aff_jax"] = _gathered(output, input_gradients, gradients, new)
    sides["aff_jax"] = Side(
        lambda: forward_backward(variables, arrays, cotangent_array), jax.block_until_ready
    )
    return sides, check_equal(outputs, TOLERANCES[case.dtype], f"{case.label}, training")


def _gathered(output: Any, inputs: list[Any], params: Any, variables: Any) -> dict[str, np.ndarray]:
    """Arrays to compare. Of a kind all in one: the gradient of a bias before a norm is rounding."""

    def flat(tree: Any) -> np.ndarray:
        return np.concatenate([np.asarray(a, np.float32).ravel() for a in jax.tree.leaves(tree)])

    return {
        "output": flat(output),
        "gradients of the inputs": flat(inputs),
        "gradients of the parameters": flat(params),
        "running statistics": flat(variables["batch_stats"]),
    }
