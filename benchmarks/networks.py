"""Time networks and measure their peak memory, and compare with PyTorch and with addition.

    python -m benchmarks.networks

The benchmark times networks with `add`, `aff` and `iaff` on random images: a training step
(cross-entropy, gradients, new statistics, SGD with Nesterov momentum), and evaluation of the frozen
network. The runs of all fusions of a network are interleaved, so the cost of AFF over addition is
measured in one process. Before anything is timed, one step on four images is compared in float64,
including gradients (`benchmarks/step_check.py`). Then the logits and the first loss of what is
timed are compared. If PyTorch's two memory layouts differ in float32, aff_jax may differ by ten
times as much.

Peak memory of a training step is, for aff_jax, the memory of XLA's program: arguments, results and
temporary arrays, with donated arguments counted once. For PyTorch it is the largest amount that is
allocated at a time, including parameters, momentum and images, from the profiler or on a GPU from
the allocator. Neither includes the scratch memory of convolutions on a CPU.

On a CPU, images are small, and torch.compile, which takes minutes for a large network, is a side of
the first network only (`--compile=all` for all). On a GPU, ImageNet networks have 256 images of
224 x 224 pixels per step, in bfloat16. It takes ten minutes on two CPU cores.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax

from benchmarks.floors import Floors
from benchmarks.network_sides import (
    AFF_JAX,
    TOLERANCES,
    Case,
    Size,
    evaluation,
    make_case,
    training,
)
from benchmarks.session import add_session_arguments, start_session
from benchmarks.step_check import TOLERANCE
from benchmarks.timing import Side, make_parser, time_sides
from benchmarks.torch_networks import NETWORKS
from benchmarks.torch_sides import COMPILED, EAGER, EAGER_LAST, faster_eager, speedups

__all__ = ["COST_TABLE", "cost_over_addition", "main", "make_row", "measure"]

FUSIONS = ("add", "aff", "iaff")

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

MODES = {"training": training, "evaluation": evaluation}

COST_TABLE = "Training step: cost of a fusion relative to addition"


def measure(
    mode: str, cases: Sequence[Case], with_compiled: bool, rounds: int, floors: Floors | None
) -> tuple[list[dict[str, Any]], dict[str, dict[str, float]]]:
    """Time one network with each fusion. The runs of all sides of all fusions are interleaved.

    Args:
        mode: "training" or "evaluation".
        cases: The network with each fusion.
        with_compiled: Include torch.compile.
        rounds: Number of rounds that count.
        floors: Measured rates of the device, or None.

    Returns:
        The table's rows, one per fusion, and the seconds by case and side.
    """
    sides: dict[str, Side] = {}
    measured: dict[str, dict[str, Any]] = {}
    names: dict[str, list[str]] = {}
    for case in cases:
        made, measured[case.fusion] = MODES[mode](case, with_compiled)
        names[case.fusion] = [AFF_JAX, *(name for name in made if name != AFF_JAX)]
        sides |= {f"{case.fusion} {name}": side for name, side in made.items()}
    queue = jax.default_backend() == "gpu"
    found = time_sides(sides, rounds, turn_seconds=0.5, most_calls=5, queue=queue)
    rows, seconds = [], {}
    for case in cases:
        times = {name: found[f"{case.fusion} {name}"] for name in names[case.fusion]}
        seconds[f"{case.name}, {case.fusion}"] = times
        rows.append(make_row(mode, case, times, measured[case.fusion], floors))
    return rows, seconds


def make_row(
    mode: str,
    case: Case,
    seconds: dict[str, float],
    measured: dict[str, Any],
    floors: Floors | None,
) -> dict[str, Any]:
    """Return the row of a case in the table of a mode.

    Args:
        mode: "training" or "evaluation".
        case: The network and its images.
        seconds: Median seconds per call by side.
        measured: Measurements that the mode returned with its sides.
        floors: Measured rates of the device, or None.

    Returns:
        Values by column.
    """
    row: dict[str, Any] = {
        "network": case.name,
        "fusion": case.fusion,
        "images": f"{case.size.batch} of {case.size.pixels}x{case.size.pixels}",
    }
    for side in (AFF_JAX, EAGER, EAGER_LAST, COMPILED):
        row[f"{side}, images/s"] = case.size.batch / seconds[side] if side in seconds else None
    row["times eager, faster layout"] = faster_eager(seconds) / seconds[AFF_JAX]
    compiled = seconds.get(COMPILED)
    row[f"times {COMPILED}"] = compiled / seconds[AFF_JAX] if compiled else None
    if floors and mode == "training":
        flops = measured["flops"]
        multiple = seconds[AFF_JAX] * floors.arithmetic / flops
        row["time / arithmetic floor"] = None if math.isnan(flops) else multiple
    row["largest difference"] = f"{measured['difference']:.0e}"
    if mode == "training":
        row |= {f"{side}, peak MB": measured[side] / 1e6 for side in (AFF_JAX, EAGER_LAST)}
    return row


def cost_over_addition(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return time and peak memory of each fusion's training step relative to addition."""
    costs = []
    for row in rows:
        (base,) = (r for r in rows if r["network"] == row["network"] and r["fusion"] == "add")
        if row is base:
            continue
        cost = {"network": row["network"], "fusion": row["fusion"]}
        for side in (AFF_JAX, EAGER_LAST):
            speed, peak = f"{side}, images/s", f"{side}, peak MB"
            cost[f"{side}: step / add's"] = base[speed] / row[speed]
            cost[f"{side}: peak memory / add's"] = row[peak] / base[peak]
        costs.append(cost)
    return costs


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark, print its tables and write them."""
    parser = make_parser(__doc__, rounds=5)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS))
    parser.add_argument("--fusions", nargs="+", default=FUSIONS, choices=FUSIONS)
    parser.add_argument("--batch", type=int, help="images per step, for every network")
    parser.add_argument("--pixels", type=int, help="height and width of the images")
    parser.add_argument(
        "--compile",
        choices=("all", "first", "none"),
        help="networks with a side of torch.compile; default: all on a GPU, otherwise first",
    )
    add_session_arguments(parser, TOLERANCES)
    session = start_session(parser, argv)
    arguments = session.arguments
    sizes = dict(GPU_SIZES if session.gpu else CPU_SIZES)
    networks = arguments.networks or list(sizes)
    compiling = arguments.compile or ("all" if session.gpu else "first")
    if arguments.quick:
        networks = arguments.networks or networks[:1]
        sizes, compiling = dict.fromkeys(networks, QUICK_SIZE), "none"
    rows: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
    seconds: dict[str, dict[str, dict[str, float]]] = {mode: {} for mode in MODES}
    for index, name in enumerate(networks):
        size = sizes.get(name, GPU_SIZES[name])
        size = Size(arguments.batch or size.batch, arguments.pixels or size.pixels)
        cases = [make_case(name, fusion, size, session.dtype) for fusion in arguments.fusions]
        with_compiled = compiling == "all" or (compiling == "first" and index == 0)
        for mode in MODES:
            found = measure(mode, cases, with_compiled, session.rounds, session.floors)
            rows[mode] += found[0]
            seconds[mode] |= found[1]
            session.log(f"{name}: {mode} done")
        jax.clear_caches()
    tables = {"Training step": rows["training"]}
    if {"add"} < set(arguments.fusions):
        tables[COST_TABLE] = cost_over_addition(rows["training"])
    tables["Evaluation"] = rows["evaluation"]
    note = (
        f"Medians of {session.rounds} rounds, {session.dtype}. Before anything was timed, logits, "
        f"loss, gradients and running statistics of a step on four images were equal to "
        f"{TOLERANCE:.0e} in float64, and the logits and the first loss of what was timed, as in "
        f"the column, to {TOLERANCES[session.dtype]:.0e} or ten times the difference between "
        f"PyTorch's two memory layouts. `benchmarks/networks.py` describes peak memory; PyTorch's "
        f"is that of eager, channels-last."
    )
    session.publish(
        "networks",
        "Networks compared with PyTorch",
        tables,
        [note],
        {mode.capitalize(): speedups(cases) for mode, cases in seconds.items()},
        "images per second, relative to PyTorch eager in its faster layout",
    )


if __name__ == "__main__":
    main()
