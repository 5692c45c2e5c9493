"""Time MSCAM, AFF and IAFF in evaluation and training, and compare with PyTorch.

    python -m benchmarks.modules

The benchmark times evaluation, and the forward and backward pass in training with new running
statistics, for four shapes. The sides of PyTorch are the modules of open-aff's PyTorch port with
the same weights: eager in both memory layouts, and torch.compile. Outputs, gradients and statistics
are compared before anything is timed. The sides of aff_jax are:

- `aff_jax`: the module, jitted;
- `frozen`: `aff_jax.inference.freeze` on one device;
- `frozen, N devices`: on a CPU, one device per core, each with its share of the batch in chunks
  (`chunk_size`). The result takes the memory of x (`donate`): each call gets a copy of x, which is
  not timed;
- `frozen, the faster of both`: in the means over the shapes, the faster of these two for each
  shape, as PyTorch eager is the faster of its two layouts.

On a GPU the computation is in bfloat16, and the time is also divided by the floor
(`benchmarks/floors.py`). `--floors` measures floors on a CPU too.

It takes about four minutes on two CPU cores. torch.compile caches its programs, so a second run is
faster.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.floors import Floors, attention_work
from benchmarks.module_sides import MODULES, TOLERANCES, Case, evaluation, make_case, training
from benchmarks.session import add_session_arguments, start_session
from benchmarks.timing import geometric_mean, make_parser, time_sides
from benchmarks.torch_sides import COMPILED, TORCH_SIDES, faster_eager, speedups

__all__ = ["SHAPES", "main", "make_row", "mean_speedups"]

SHAPES = ((32, 32, 32, 64), (32, 16, 16, 256), (8, 56, 56, 256), (8, 7, 7, 2048))
QUICK_SHAPES = ((4, 4, 4, 8),)

MODES = {"evaluation": evaluation, "training": training}


def make_row(
    case: Case, seconds: dict[str, float], difference: float, floors: Floors | None
) -> dict[str, Any]:
    """Return the row of a case in the table of a mode.

    Args:
        case: The module and its inputs.
        seconds: Median seconds per call by side.
        difference: Largest relative difference of the results.
        floors: Measured rates of the device, or None.

    Returns:
        Values by column.
    """
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


def mean_speedups(seconds: dict[str, dict[str, float]]) -> Iterator[dict[str, Any]]:
    """Yield, for each module and side, its speedup over PyTorch, a geometric mean over shapes."""
    for name in MODULES:
        cases = [
            times | _faster_frozen(times)
            for label, times in seconds.items()
            if label.split()[0] == name
        ]
        for side in dict.fromkeys(side for times in cases for side in times):
            if side in TORCH_SIDES:
                continue
            eager = [faster_eager(times) / times[side] for times in cases]
            compiled = [times[COMPILED] / times[side] for times in cases if COMPILED in times]
            yield {
                "module": name,
                "side": side,
                "times PyTorch eager, faster layout": geometric_mean(eager),
                "times torch.compile": geometric_mean(compiled) if compiled else None,
            }


def _faster_frozen(times: dict[str, float]) -> dict[str, float]:
    """Return the side `frozen, the faster of both` if there are both."""
    frozen = [value for side, value in times.items() if side.startswith("frozen")]
    return {"frozen, the faster of both": min(frozen)} if frozen[1:] else {}


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark, print its tables and write them."""
    parser = make_parser(__doc__, rounds=5)
    parser.add_argument("--modules", nargs="+", default=list(MODULES), choices=list(MODULES))
    add_session_arguments(parser, TOLERANCES)
    session = start_session(parser, argv, device_per_thread=True)
    quick = session.arguments.quick
    seconds: dict[str, dict[str, dict[str, float]]] = {}
    tables: dict[str, list[dict[str, Any]]] = {}
    for mode, make_sides in MODES.items():
        seconds[mode], tables[mode.capitalize()] = {}, []
        for name in session.arguments.modules:
            for shape in QUICK_SHAPES if quick else SHAPES:
                case = make_case(name, shape, session.dtype)
                sides, difference = make_sides(case, with_compiled=not quick)
                times = time_sides(sides, session.rounds, turn_seconds=0.06, queue=session.gpu)
                seconds[mode][case.label] = times
                tables[mode.capitalize()].append(make_row(case, times, difference, session.floors))
                session.log(f"{mode}: {case.label} done")
                jax.clear_caches()
        tables[f"{mode.capitalize()}, geometric mean over the shapes"] = list(
            mean_speedups(seconds[mode])
        )
    note = (
        f"Medians of {session.rounds} rounds, {session.dtype}. Before anything was timed, outputs, "
        f"and in training gradients and running statistics, were equal to "
        f"{TOLERANCES[session.dtype]:.0e} of the largest value of their array."
    )
    session.publish(
        "modules",
        "MSCAM, AFF and IAFF compared with PyTorch",
        tables,
        [note],
        {mode.capitalize(): speedups(cases) for mode, cases in seconds.items()},
        "speed relative to PyTorch eager in its faster layout",
    )


if __name__ == "__main__":
    main()
