"""How fast are networks, and how much memory do they need? Beside PyTorch, and beside addition.

    python -m benchmarks.networks

Networks with `add`, `aff` and `iaff`: a training step (cross-entropy, gradients, new statistics,
SGD with Nesterov momentum) and the evaluation of the frozen network, on random images. The sides of
all fusions of a network take turns, so that what AFF costs over addition comes out of one run.
Logits and the losses of three steps are compared before anything is timed.

Peak memory of a training step is, for aff_jax, what XLA says its program needs: arguments, results
and temporary arrays, what is given away counted once. For PyTorch it is the most that is allocated
at a time, parameters, momentum and images included, by its profiler or on a GPU its allocator; on a
CPU the scratch memory of its convolutions is in neither.

On a CPU images are small and torch.compile, which takes minutes for a large network, stands beside
the first one only (`--compile=all` for all). On a GPU ImageNet's networks have 224 x 224 pixels and
256 images a step, in bfloat16. Takes eight minutes on two CPU cores.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from rich.console import Console
from torch.nn import functional

import aff_jax
from aff_jax.inference import freeze
from benchmarks.floors import Floors, measure_floors
from benchmarks.memory import peak_bytes_of_torch, peak_bytes_of_xla
from benchmarks.plots import draw_sides
from benchmarks.results import describe_machine, write_results
from benchmarks.timing import Side, alternate, check_equal, measuring_arguments
from benchmarks.torch_networks import NETWORKS, make_network
from benchmarks.torch_sides import (
    SIDES,
    channels_first,
    copies,
    device,
    share_machine,
    synchronize,
)

EAGER, EAGER_LAST, COMPILED = SIDES
OURS = "aff_jax"
FUSIONS = ("add", "aff", "iaff")
RATE, MOMENTUM = 1e-3, 0.9
LOSSES = 3
TOLERANCES = {"float32": 1e-3, "bfloat16": 5e-2}
"""Differences that are allowed, as a share of the largest logit or loss."""


@dataclasses.dataclass(frozen=True)
class Size:
    """Images of a step, and their height and width."""

    batch: int
    pixels: int


CPU_SIZES = {
    "cifar_resnet8": Size(128, 32),
    "cifar_resnet20": Size(32, 32),
    "cifar_resnet32": Size(32, 32),
    "resnet50": Size(4, 96),
}
GPU_SIZES = {
    "cifar_resnet8": Size(128, 32),
    "cifar_resnet20": Size(128, 32),
    "cifar_resnet32": Size(128, 32),
    "resnet50": Size(256, 224),
    "resnet50_v1d": Size(256, 224),
}
QUICK_SIZE = Size(4, 32)


@dataclasses.dataclass(frozen=True)
class Case:
    """A network with a fusion: both frameworks' with one set of weights, and random images."""

    name: str
    fusion: str
    size: Size
    dtype: str
    model: nn.Module
    variables: dict[str, Any]
    images: np.ndarray
    labels: np.ndarray

    @property
    def torch_dtype(self) -> torch.dtype:
        """PyTorch's word for the dtype."""
        found: torch.dtype = getattr(torch, self.dtype)
        return found

    def tensors(self, layout: torch.memory_format) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels as PyTorch has them."""
        return channels_first(self.images, layout), torch.tensor(self.labels).to(device())


def make_case(name: str, fusion: str, size: Size, dtype: str) -> Case:
    """Weights as PyTorch starts them, and as aff_jax reads them from its state dict."""
    model = aff_jax.create_model(
        name,
        fusion,
        reference="pytorch",
        num_classes=10 if name.startswith("cifar") else 1000,
        dtype=None if dtype == "float32" else dtype,
    )
    variables = aff_jax.convert.from_torch(make_network(name, fusion).state_dict(), model)
    variables = {key: variables[key] for key in ("params", "batch_stats")}
    rng = np.random.default_rng(0)
    images = rng.standard_normal((size.batch, size.pixels, size.pixels, 3), np.float32)
    labels = rng.integers(0, 10, size.batch)
    return Case(name, fusion, size, dtype, model, variables, images, labels)


def evaluation(case: Case, with_compiled: bool) -> tuple[dict[str, Side], dict[str, Any]]:
    """The sides of one network with one fusion."""
    sides: dict[str, Side] = {}
    outputs: dict[str, dict[str, np.ndarray]] = {}
    made = copies(lambda: make_network(case.name, case.fusion), with_compiled, case.torch_dtype)
    for name, called, module, layout in made:
        module.eval()
        images = case.tensors(layout)[0].to(case.torch_dtype)

        def call(called: Any = called, images: torch.Tensor = images) -> torch.Tensor:
            with torch.inference_mode():
                result: torch.Tensor = called(images)
                return result

        sides[name] = Side(call, synchronize)
        outputs[name] = {"logits": call().float().cpu().numpy()}
    ours = jnp.asarray(case.images)
    frozen = freeze(case.model, case.variables, ours, dtype=case.dtype)
    sides[OURS] = Side(lambda: frozen(ours), jax.block_until_ready)
    outputs[OURS] = {"logits": np.asarray(frozen(ours), np.float32)}
    what = f"{case.name} with {case.fusion}, evaluation"
    return sides, {"difference": check_equal(outputs, TOLERANCES[case.dtype], what)}


def training(case: Case, with_compiled: bool) -> tuple[dict[str, Side], dict[str, Any]]:
    """The sides of one network with one fusion, and bytes and operations of a step."""
    sides: dict[str, Side] = {}
    outputs: dict[str, dict[str, np.ndarray]] = {}
    facts: dict[str, Any] = {}
    made = copies(lambda: make_network(case.name, case.fusion), with_compiled)
    for name, called, module, layout in made:
        step, held = _torch_step(case, called, module.train(), layout)
        sides[name] = Side(step, synchronize)
        outputs[name] = {"losses": np.asarray([step().item() for _ in range(LOSSES)])}
        if name == EAGER_LAST:
            facts[name] = peak_bytes_of_torch(step, held())

    optimizer = optax.sgd(RATE, momentum=MOMENTUM, nesterov=True)
    labels = jnp.asarray(case.labels)
    images = jnp.asarray(case.images)

    def step_of(state: tuple[Any, Any, Any], images: Any, labels: Any) -> tuple[Any, jax.Array]:
        params, stats, opt_state = state

        def loss_of(params: Any) -> tuple[jax.Array, Any]:
            tree = {"params": params, "batch_stats": stats}
            logits, new = case.model.apply(tree, images, train=True, mutable=["batch_stats"])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return jnp.mean(losses), new["batch_stats"]

        (loss, stats), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return (optax.apply_updates(params, updates), stats, opt_state), loss

    params, stats = (jax.tree.map(jnp.array, case.variables[k]) for k in ("params", "batch_stats"))
    state = (params, stats, optimizer.init(params))
    lowered = jax.jit(step_of, donate_argnums=0).lower(state, images, labels)
    compiled = lowered.compile()
    facts[OURS] = peak_bytes_of_xla(compiled)
    facts["flops"] = (compiled.cost_analysis() or {}).get("flops")

    def call() -> jax.Array:
        nonlocal state
        state, loss = compiled(state, images, labels)
        return loss

    outputs[OURS] = {"losses": np.asarray([call() for _ in range(LOSSES)])}
    # The state is ready when the loss is: one program computes both.
    sides[OURS] = Side(call, jax.block_until_ready)
    what = f"{case.name} with {case.fusion}, training"
    return sides, facts | {"difference": check_equal(outputs, TOLERANCES[case.dtype], what)}


def _torch_step(
    case: Case, called: Any, module: torch.nn.Module, layout: torch.memory_format
) -> tuple[Callable[[], torch.Tensor], Callable[[], list[torch.Tensor]]]:
    """One training step of PyTorch, which gives the loss; and the tensors kept between steps."""
    images, labels = case.tensors(layout)
    low = case.torch_dtype != torch.float32
    optimizer = torch.optim.SGD(module.parameters(), RATE, momentum=MOMENTUM, nesterov=True)

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device().type, case.torch_dtype, enabled=low):
            loss = functional.cross_entropy(called(images), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def held() -> list[torch.Tensor]:
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        momentum = [entry["momentum_buffer"] for entry in optimizer.state.values()]
        return [images, labels, *module.state_dict().values(), *gradients, *momentum]

    return step, held


MODES = {"training": training, "evaluation": evaluation}


def measure(
    mode: str, cases: Sequence[Case], with_compiled: bool, rounds: int, floors: Floors | None
) -> list[dict[str, Any]]:
    """Rows of one network, one a fusion; sides of all fusions take turns."""
    sides: dict[str, Side] = {}
    facts: dict[str, dict[str, Any]] = {}
    for case in cases:
        made, facts[case.fusion] = MODES[mode](case, with_compiled)
        sides |= {f"{case.fusion} {name}": side for name, side in made.items()}
    gpu = jax.default_backend() == "gpu"
    seconds = alternate(sides, rounds, turn_seconds=0.5, most_calls=5, queue=gpu)
    rows = []
    for case in cases:
        of = {s: seconds[f"{case.fusion} {s}"] for s in (OURS, *SIDES[: 2 + with_compiled])}
        eager = min(of[EAGER], of[EAGER_LAST])
        row: dict[str, Any] = {
            "network": case.name,
            "fusion": case.fusion,
            "images": f"{case.size.batch} of {case.size.pixels}x{case.size.pixels}",
        }
        row |= {f"{side}, images/s": case.size.batch / value for side, value in of.items()}
        if not with_compiled:
            row[f"{COMPILED}, images/s"] = None
        row["times eager, faster layout"] = eager / of[OURS]
        row[f"times {COMPILED}"] = of[COMPILED] / of[OURS] if with_compiled else None
        if floors and mode == "training":
            flops = facts[case.fusion]["flops"]
            row["time / arithmetic floor"] = flops and of[OURS] * floors.arithmetic / flops
        row["largest difference"] = f"{facts[case.fusion]['difference']:.0e}"
        rows.append(row)
    return (
        rows
        if mode == "evaluation"
        else [
            row
            | {f"{side}, peak MB": facts[row["fusion"]][side] / 1e6 for side in (OURS, EAGER_LAST)}
            for row in rows
        ]
    )


def against_add(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a fusion costs over addition in a training step: ratios of time and of peak memory."""
    found = []
    for row in rows:
        (base,) = (r for r in rows if r["network"] == row["network"] and r["fusion"] == "add")
        if row is base:
            continue
        entry = {"network": row["network"], "fusion": row["fusion"]}
        for side in (OURS, EAGER_LAST):
            speed, peak = f"{side}, images/s", f"{side}, peak MB"
            entry[f"{side}: step / add's"] = base[speed] / row[speed]
            entry[f"{side}: peak memory / add's"] = row[peak] / base[peak]
        found.append(entry)
    return found


def main(argv: list[str] | None = None) -> None:
    """Print the tables, and write them."""
    parser = measuring_arguments((__doc__ or "").splitlines()[0], rounds=5)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS))
    parser.add_argument("--fusions", nargs="+", default=FUSIONS, choices=FUSIONS)
    parser.add_argument("--batch", type=int, help="images of a step, of every network")
    parser.add_argument("--pixels", type=int, help="height and width of images")
    parser.add_argument("--dtype", choices=list(TOLERANCES), help="default: bfloat16 on a GPU")
    parser.add_argument("--compile", choices=("all", "first", "none"), help="default: all on a GPU")
    parser.add_argument("--floors", action="store_true", help="measure the floors on a CPU as well")
    arguments = parser.parse_args(argv)
    share_machine(arguments.threads)
    gpu = jax.default_backend() == "gpu"
    dtype = arguments.dtype or ("bfloat16" if gpu else "float32")
    sizes = dict(GPU_SIZES if gpu else CPU_SIZES)
    names = arguments.networks or list(sizes)
    compiling = arguments.compile or ("all" if gpu else "first")
    rounds = arguments.rounds
    if arguments.quick:
        names = arguments.networks or names[:1]
        sizes, compiling, rounds = dict.fromkeys(names, QUICK_SIZE), "none", 1
    floors = None
    if gpu or arguments.floors:
        floors = measure_floors(dtype, 64, 512) if arguments.quick else measure_floors(dtype)
    console = Console(highlight=False, soft_wrap=True)
    rows: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
    for index, name in enumerate(names):
        size = sizes.get(name, GPU_SIZES[name])
        size = Size(arguments.batch or size.batch, arguments.pixels or size.pixels)
        cases = [make_case(name, fusion, size, dtype) for fusion in arguments.fusions]
        with_compiled = compiling == "all" or (compiling == "first" and index == 0)
        for mode in MODES:
            rows[mode] += measure(mode, cases, with_compiled, rounds, floors)
            console.print(f"{name}: {mode} done", style="dim")
        jax.clear_caches()
    tables = {"Training step": rows["training"]}
    if {"add"} < set(arguments.fusions):
        tables["What a fusion costs over addition in a training step"] = against_add(
            rows["training"]
        )
    tables["Evaluation"] = rows["evaluation"]
    notes = [
        f"Medians of {rounds} rounds, {dtype}. Before anything was timed, the logits and the "
        f"losses of {LOSSES} steps agreed to {TOLERANCES[dtype]:.0e}. Peak memory as described in "
        f"`benchmarks/networks.py`; PyTorch's is that of eager, channels-last."
    ]
    machine = describe_machine(arguments.threads)
    title = "Networks beside PyTorch"
    console.print(write_results(arguments.output, "networks", title, tables, notes, machine))
    draw_sides(
        {mode.capitalize(): _speeds(rows[mode]) for mode in MODES},
        "images a second, relative to PyTorch eager in its faster layout",
        Path(arguments.output) / "networks.png",
    )


def _speeds(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Of every side, relative to the faster of PyTorch's two layouts."""
    found = {}
    for row in rows:
        eager = max(row[f"{side}, images/s"] for side in SIDES[:2])
        speeds = {side: row[f"{side}, images/s"] for side in (OURS, *SIDES)}
        label = f"{row['network']}, {row['fusion']}"
        found[label] = {side: v / eager for side, v in speeds.items() if v is not None}
    return found


if __name__ == "__main__":
    main()
