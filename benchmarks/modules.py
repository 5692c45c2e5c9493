"""How fast are MSCAM, AFF and IAFF beside PyTorch? Evaluation, frozen, and training.

    python -m benchmarks.modules

Four shapes; evaluation of the frozen module, and forward and backward pass in training with new
running statistics. PyTorch's sides are the modules of open-aff's PyTorch port with the same
weights, eager in both memory layouts and by torch.compile; outputs, gradients and statistics are
compared before anything is timed. The sides of aff_jax:

- `aff_jax`: the module as it is, jitted;
- `frozen`: `aff_jax.inference.freeze`, one device;
- `frozen, N devices`: on a CPU, one device for each core, each with its part of the batch in chunks
  (`chunk_size`); the result takes the place of x, so that x <- f(x, y) from call to call. A turn
  starts from the same x and has ten calls at most, or a gain of 2 would end at infinity.

On a GPU, in bfloat16, also the time over the floor (`benchmarks/floors.py`); `--floors` measures it
anywhere. Takes about four minutes on two CPU cores; torch.compile keeps what it compiled, so that
the second run is faster.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
from rich.console import Console

import aff_jax
from aff_jax.inference import freeze
from benchmarks.floors import Floors, attention_work, measure_floors
from benchmarks.plots import draw_sides
from benchmarks.results import describe_machine, write_results
from benchmarks.timing import Side, alternate, check_equal, geometric_mean, measuring_arguments
from benchmarks.torch_sides import (
    SIDES,
    channels_first,
    channels_last,
    copies,
    device,
    share_machine,
    synchronize,
)
from tests.reference import torch_aff

SHAPES = ((32, 32, 32, 64), (32, 16, 16, 256), (8, 56, 56, 256), (8, 7, 7, 2048))
QUICK_SHAPES = ((4, 4, 4, 8),)
CHUNK_BYTES = 1.6e6
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
        sides[name] = _chained(function, placed) if donated else _repeated(function, placed)
    return sides, check_equal(outputs, TOLERANCES[case.dtype], f"{case.label}, evaluation")


def _repeated(function: Callable[..., jax.Array], inputs: list[jax.Array]) -> Side:
    return Side(lambda: function(*inputs), jax.block_until_ready)


def _chained(function: Callable[..., jax.Array], inputs: list[jax.Array]) -> Side:
    """Each call takes the result of the one before for x; a turn starts from the same x."""
    first, rest = np.asarray(inputs[0]), inputs[1:]
    sharding = inputs[0].sharding
    x = inputs[0]

    def start() -> None:
        nonlocal x
        x = jax.block_until_ready(jax.device_put(first, sharding))

    def call() -> jax.Array:
        nonlocal x
        x = function(x, *rest)
        return x

    return Side(call, jax.block_until_ready, start)


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


MODES = {"evaluation": evaluation, "training": training}


def summarise(
    case: Case, seconds: dict[str, float], difference: float, floors: Floors | None
) -> dict[str, Any]:
    """One row of the table of a mode."""
    row: dict[str, Any] = {"module": case.name, "shape": "x".join(map(str, case.shape))}
    row |= {f"{side}, ms": 1e3 * value for side, value in seconds.items()}
    row["largest difference"] = f"{difference:.0e}"
    if floors and "frozen" in seconds:
        size = jnp.dtype(case.dtype).itemsize
        for name, cached in (("floor", False), ("floor if cached", True)):
            floor = floors.seconds(attention_work(case.name, case.shape, size, cached=cached))
            row[f"{name}, ms"] = 1e3 * floor
            row[f"frozen / {name}"] = seconds["frozen"] / floor
    return row


def ratios(seconds: dict[str, dict[str, float]]) -> Iterator[dict[str, Any]]:
    """How many times as fast as PyTorch our sides are: geometric means over the shapes."""
    for name in MODULES:
        cases = [times for label, times in seconds.items() if label.split()[0] == name]
        for side in dict.fromkeys(side for times in cases for side in times):
            if side in SIDES:
                continue
            eager = [min(times[s] for s in SIDES[:2]) / times[side] for times in cases]
            compiled = [t[SIDES[2]] / t[side] for t in cases if SIDES[2] in t]
            yield {
                "module": name,
                "side": side,
                "times PyTorch eager, faster layout": geometric_mean(eager),
                "times torch.compile": geometric_mean(compiled) if compiled else None,
            }


def main(argv: list[str] | None = None) -> None:
    """Print the tables, and write them."""
    parser = measuring_arguments((__doc__ or "").splitlines()[0], rounds=5)
    parser.add_argument("--modules", nargs="+", default=list(MODULES), choices=list(MODULES))
    parser.add_argument("--dtype", choices=list(TOLERANCES), help="default: bfloat16 on a GPU")
    parser.add_argument("--floors", action="store_true", help="measure the floors on a CPU as well")
    arguments = parser.parse_args(argv)
    rounds = 1 if arguments.quick else arguments.rounds
    share_machine(arguments.threads)
    jax.config.update("jax_num_cpu_devices", arguments.threads)
    gpu = jax.default_backend() == "gpu"
    dtype = arguments.dtype or ("bfloat16" if gpu else "float32")
    floors = None
    if gpu or arguments.floors:
        floors = measure_floors(dtype, 64, 512) if arguments.quick else measure_floors(dtype)
    console = Console(highlight=False, soft_wrap=True)
    seconds: dict[str, dict[str, dict[str, float]]] = {}
    tables: dict[str, list[dict[str, Any]]] = {}
    for mode, make_sides in MODES.items():
        seconds[mode], tables[mode.capitalize()] = {}, []
        for name in arguments.modules:
            for shape in QUICK_SHAPES if arguments.quick else SHAPES:
                case = make_case(name, shape, dtype)
                sides, difference = make_sides(case, with_compiled=not arguments.quick)
                found = alternate(sides, rounds, turn_seconds=0.06, queue=gpu)
                seconds[mode][case.label] = found
                tables[mode.capitalize()].append(summarise(case, found, difference, floors))
                console.print(f"{mode}: {case.label} done", style="dim")
                jax.clear_caches()
        tables[f"{mode.capitalize()}, geometric mean over the shapes"] = list(ratios(seconds[mode]))
    notes = [
        f"Medians of {rounds} rounds, {dtype}. Before anything was timed, outputs, and in "
        "training gradients and running statistics, agreed to "
        f"{TOLERANCES[dtype]:.0e} of the largest value of their array."
    ]
    if floors:
        notes.append(
            f"A copy moved {floors.bandwidth / 1e9:.0f} GB/s, a matrix product did "
            f"{floors.arithmetic / 1e12:.3g} TFLOP/s."
        )
    machine = describe_machine(arguments.threads)
    title = "MSCAM, AFF and IAFF beside PyTorch"
    console.print(write_results(arguments.output, "modules", title, tables, notes, machine))
    draw_sides(
        {mode.capitalize(): _speeds(cases) for mode, cases in seconds.items()},
        "times as fast as PyTorch eager in its faster layout",
        Path(arguments.output) / "modules.png",
    )


def _speeds(cases: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Relative to the faster of PyTorch's two layouts."""
    return {
        label: {side: min(times[s] for s in SIDES[:2]) / value for side, value in times.items()}
        for label, times in cases.items()
    }


if __name__ == "__main__":
    main()
