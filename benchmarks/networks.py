"""How fast are networks, and how much memory do they need? Beside PyTorch, and beside addition.

    python -m benchmarks.networks

Networks with `add`, `aff` and `iaff`: a training step (cross-entropy, gradients, new statistics,
SGD with Nesterov momentum) and the evaluation of the frozen network, on random images. The sides of
all fusions of a network take turns, so that what AFF costs over addition comes out of one run.
Before anything is timed, a step on four images is compared in double precision, gradients and all
(`benchmarks/twins.py`), and then the logits and the first loss of what is timed. Where PyTorch's
own two memory layouts part in single precision, ours may be ten times as far from the first.

Peak memory of a training step is, for aff_jax, what XLA says its program needs: arguments, results
and temporary arrays, what is given away counted once. For PyTorch it is the most that is allocated
at a time, parameters, momentum and images included, by its profiler or on a GPU its allocator; on a
CPU the scratch memory of its convolutions is in neither.

On a CPU images are small and torch.compile, which takes minutes for a large network, stands beside
the first one only (`--compile=all` for all). On a GPU ImageNet's networks have 224 x 224 pixels and
256 images a step, in bfloat16. Takes ten minutes on two CPU cores.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from benchmarks.floors import Floors
from benchmarks.network_sides import (
    COMPILED,
    EAGER,
    EAGER_LAST,
    OURS,
    TOLERANCES,
    Case,
    Size,
    evaluation,
    make_case,
    training,
)
from benchmarks.plots import draw_sides
from benchmarks.results import describe_machine, write_results
from benchmarks.setting import add_setting_arguments, set_up
from benchmarks.timing import Side, alternate, measuring_arguments
from benchmarks.torch_networks import NETWORKS
from benchmarks.torch_sides import SIDES
from benchmarks.twins import TOLERANCE

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
    parser.add_argument("--compile", choices=("all", "first", "none"), help="default: all on a GPU")
    add_setting_arguments(parser, TOLERANCES)
    arguments = parser.parse_args(argv)
    setting = set_up(arguments)
    gpu, dtype = setting.gpu, setting.dtype
    sizes = dict(GPU_SIZES if gpu else CPU_SIZES)
    names = arguments.networks or list(sizes)
    compiling = arguments.compile or ("all" if gpu else "first")
    rounds = arguments.rounds
    if arguments.quick:
        names = arguments.networks or names[:1]
        sizes, compiling, rounds = dict.fromkeys(names, QUICK_SIZE), "none", 1
    console = Console(highlight=False, soft_wrap=True)
    rows: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
    for index, name in enumerate(names):
        size = sizes.get(name, GPU_SIZES[name])
        size = Size(arguments.batch or size.batch, arguments.pixels or size.pixels)
        cases = [make_case(name, fusion, size, dtype) for fusion in arguments.fusions]
        with_compiled = compiling == "all" or (compiling == "first" and index == 0)
        for mode in MODES:
            rows[mode] += measure(mode, cases, with_compiled, rounds, setting.floors)
            console.print(f"{name}: {mode} done", style="dim")
        jax.clear_caches()
    tables = {"Training step": rows["training"]}
    if {"add"} < set(arguments.fusions):
        tables["What a fusion costs over addition in a training step"] = against_add(
            rows["training"]
        )
    tables["Evaluation"] = rows["evaluation"]
    notes = [
        f"Medians of {rounds} rounds, {dtype}. Before anything was timed, logits, loss, gradients "
        f"and running statistics of a step on four images agreed to {TOLERANCE:.0e} in float64; "
        f"and the logits and the first loss of what was timed, as the column says, to "
        f"{TOLERANCES[dtype]:.0e} or ten times what PyTorch's two memory layouts are apart. "
        "Peak memory as described in `benchmarks/networks.py`; PyTorch's is that of eager, "
        "channels-last.",
        *setting.notes,
    ]
    machine = describe_machine(arguments.threads)
    title = "Networks beside PyTorch"
    flags = sys.argv[1:] if argv is None else argv
    page = write_results(arguments.output, "networks", title, tables, notes, machine, flags)
    console.print(page)
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
