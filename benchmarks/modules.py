"""How fast are MSCAM, AFF and IAFF beside PyTorch? Evaluation, frozen, and training.

    python -m benchmarks.modules

Four shapes; evaluation of the frozen module, and forward and backward pass in training with new
running statistics. PyTorch's sides are the modules of open-aff's PyTorch port with the same
weights, eager in both memory layouts and by torch.compile; outputs, gradients and statistics are
compared before anything is timed. The sides of aff_jax:

- `aff_jax`: the module as it is, jitted;
- `frozen`: `aff_jax.inference.freeze`, one device;
- `frozen, N devices`: on a CPU, one device for each core, each with its part of the batch in chunks
  (`chunk_size`); the result takes the place of x (`donate`), of which each call gets a copy before
  it is timed;
- `frozen, the faster of both`, in the means over the shapes: a choice for each shape, as PyTorch's
  eager side is the faster of its two layouts.

On a GPU, in bfloat16, also the time over the floor (`benchmarks/floors.py`); `--floors` measures it
anywhere. Takes about four minutes on two CPU cores; torch.compile keeps what it compiled, so that
the second run is faster.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console

from benchmarks.floors import Floors, attention_work
from benchmarks.module_sides import MODULES, TOLERANCES, Case, evaluation, make_case, training
from benchmarks.plots import draw_sides
from benchmarks.results import describe_machine, write_results
from benchmarks.setting import add_setting_arguments, set_up
from benchmarks.timing import alternate, geometric_mean, measuring_arguments
from benchmarks.torch_sides import SIDES

SHAPES = ((32, 32, 32, 64), (32, 16, 16, 256), (8, 56, 56, 256), (8, 7, 7, 2048))
QUICK_SHAPES = ((4, 4, 4, 8),)

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
        cases = [
            times | _faster_frozen(times)
            for label, times in seconds.items()
            if label.split()[0] == name
        ]
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


def _faster_frozen(times: dict[str, float]) -> dict[str, float]:
    """A choice for each shape, as that of PyTorch's layout."""
    frozen = [value for side, value in times.items() if side.startswith("frozen")]
    return {"frozen, the faster of both": min(frozen)} if frozen[1:] else {}


def main(argv: list[str] | None = None) -> None:
    """Print the tables, and write them."""
    parser = measuring_arguments((__doc__ or "").splitlines()[0], rounds=5)
    parser.add_argument("--modules", nargs="+", default=list(MODULES), choices=list(MODULES))
    add_setting_arguments(parser, TOLERANCES)
    arguments = parser.parse_args(argv)
    rounds = 1 if arguments.quick else arguments.rounds
    setting = set_up(arguments, cpu_devices=arguments.threads)
    console = Console(highlight=False, soft_wrap=True)
    seconds: dict[str, dict[str, dict[str, float]]] = {}
    tables: dict[str, list[dict[str, Any]]] = {}
    for mode, make_sides in MODES.items():
        seconds[mode], tables[mode.capitalize()] = {}, []
        for name in arguments.modules:
            for shape in QUICK_SHAPES if arguments.quick else SHAPES:
                case = make_case(name, shape, setting.dtype)
                sides, difference = make_sides(case, with_compiled=not arguments.quick)
                found = alternate(sides, rounds, turn_seconds=0.06, queue=setting.gpu)
                seconds[mode][case.label] = found
                tables[mode.capitalize()].append(summarise(case, found, difference, setting.floors))
                console.print(f"{mode}: {case.label} done", style="dim")
                jax.clear_caches()
        tables[f"{mode.capitalize()}, geometric mean over the shapes"] = list(ratios(seconds[mode]))
    notes = [
        f"Medians of {rounds} rounds, {setting.dtype}. Before anything was timed, outputs, and in "
        "training gradients and running statistics, agreed to "
        f"{TOLERANCES[setting.dtype]:.0e} of the largest value of their array.",
        *setting.notes,
    ]
    machine = describe_machine(arguments.threads)
    title = "MSCAM, AFF and IAFF beside PyTorch"
    flags = sys.argv[1:] if argv is None else argv
    page = write_results(arguments.output, "modules", title, tables, notes, machine, flags)
    console.print(page)
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
