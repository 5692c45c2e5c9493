"""Show a plan as a table, and write it as JSON."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from ml_collections import ConfigDict
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from train.plan.estimate import Plan
from train.plan.search import Search, batch_that_may_fit, possible_remedies

__all__ = ["does_not_fit", "print_plan", "print_search", "write_json"]

_GIB = 2**30


def print_plan(plan: Plan, console: Console) -> None:
    """Print a plan as a table, and its most expensive operations.

    Args:
        plan: The plan.
        console: Where to print.
    """
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _rows(plan):
        table.add_row(name, escape(value))
    console.print(table)
    if not plan.operations:
        return
    by = "compiler_seconds" if plan.compiler_seconds is not None else "memory_seconds"
    console.print(
        "\nmost expensive operations of a device, by "
        + ("the compiler's estimate" if by == "compiler_seconds" else "bytes")
    )
    top = Table(box=None, pad_edge=False)
    for heading in ("Mcycles", "MB", "operation", "module"):
        top.add_column(heading, overflow="fold")
    for operation in plan.operations:
        top.add_row(
            f"{operation.cycles / 1e6:.3f}" if operation.cycles else "-",
            f"{operation.bytes / 1e6:.2f}",
            escape(operation.name),
            escape(operation.module) or "-",
        )
    console.print(top)


def print_search(search: Search, console: Console) -> None:
    """Print the result of a search.

    Args:
        search: The result.
        console: Where to print.
    """
    if search.largest is None:
        console.print("\nNo batch fits, not even one example per microbatch of a device.")
    else:
        largest = search.largest
        console.print(
            f"\nLargest batch that fits: {largest.batch_size}, "
            f"{largest.batch_size / largest.chips:g} per chip, with "
            f"{_gib(largest.memory_bytes_per_chip)} per chip and "
            f"{_number(largest.images_per_second)} images/s.",
            soft_wrap=True,
        )
    for flag, plan in search.remedies.items():
        console.print(
            f"The batch of {plan.batch_size} fits with {flag}: "
            f"{_gib(plan.memory_bytes_per_chip)} per chip and "
            f"{_number(plan.images_per_second)} images/s.",
            soft_wrap=True,
        )


def does_not_fit(plan: Plan, config: ConfigDict) -> str:
    """Return the message about a plan that does not fit: by how much, and what may.

    Args:
        plan: The plan.
        config: Its config.

    Returns:
        The message.
    """
    over = plan.memory_bytes_per_chip - plan.available_bytes_per_chip
    batch = batch_that_may_fit(plan)
    accumulations, has_remat = possible_remedies(config, plan.devices)
    advice = [
        *([f"--config.batch_size={batch}"] if batch else []),
        *(f"--config.accumulation={x}" for x in accumulations[:1]),
        *(["--config.model_fields.remat=True"] if has_remat else []),
    ]
    return (
        f"expected a run that fits into {_gib(plan.available_bytes_per_chip)} of a chip, got one "
        f"that needs {_gib(plan.memory_bytes_per_chip)}, {_gib(max(over, 0))} too much. Try "
        f"{', '.join([*advice, ''])}more chips, or --search, which finds what fits."
    )


def write_json(plan: Plan, path: Path, search: Search | None, versions: Mapping[str, str]) -> None:
    """Write a plan as JSON.

    Args:
        plan: The plan.
        path: The file. Its directory is created.
        search: Result of a search, if there was one.
        versions: Versions of the packages that compiled.

    Raises:
        OSError: If the file cannot be written.
    """
    record = {**dataclasses.asdict(plan), "versions": dict(versions)}
    if search is not None:
        largest = search.largest
        record["largest_batch_size"] = largest.batch_size if largest else 0
        record["largest_batch_per_chip"] = largest.batch_size / largest.chips if largest else 0
        record["remedies"] = {
            flag: dataclasses.asdict(remedy) for flag, remedy in search.remedies.items()
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")


def _rows(plan: Plan) -> list[tuple[str, str]]:
    devices = f", {_count(plan.devices, 'device')}" if plan.devices != plan.chips else ""
    machines = f", {_count(plan.machines, 'machine')}" if plan.machines > 1 else ""
    collectives = ", ".join(
        f"{count} {kind} of {plan.collective_bytes[kind] / 1e6:.2f} MB in total"
        for kind, count in plan.collectives.items()
    )
    loops = ", ".join(plan.loops_counted_once)
    gathers = ", ".join(plan.without_estimate)
    return [
        ("run", f"{plan.model}, {plan.fusion}, {plan.dtype}, batch {plan.batch_size}, "
                f"{plan.parallel}, {_count(plan.accumulation, 'microbatch', 'microbatches')}"),
        ("devices", f"{plan.topology}: {_count(plan.chips, 'chip')}{devices}{machines}"),
        ("fits", "yes" if plan.fits else "no"),
        ("memory per chip", f"{_gib(plan.memory_bytes_per_chip)} of "
                            f"{_gib(plan.available_bytes_per_chip)}, of which the cached dataset "
                            f"{_gib(plan.cached_bytes_per_chip)}"),
        ("parameters", f"{plan.parameters:,}"),
        ("step, all chips", f"{plan.flops_per_step / 1e9:,.1f} GFLOP, "
                            f"{_number(plan.bytes_per_step, 1e9)} GB, "
                            f"{plan.operations_per_step or '-'} operations per device"),
        ("bound by arithmetic", _milliseconds(plan.compute_seconds)),
        ("bound by memory", _milliseconds(plan.memory_seconds)),
        ("compiler's estimate", _milliseconds(plan.compiler_seconds)),
        ("communication", _milliseconds(plan.communication_seconds)
         + (f": {collectives} per device" if collectives else "")),
        ("estimated step", _milliseconds(plan.estimated_step_seconds)),
        ("speed", f"{_number(plan.images_per_second)} images/s"),
        ("training", f"{_count(plan.steps, 'step')}, {_duration(plan.hours)}"),
        *([("counted once", f"loops of unknown length: {loops}")] if loops else []),
        *([("not estimated", f"time of gathers and scatters: {gathers}")] if gathers else []),
        ("compiled in", f"{plan.compile_seconds:.0f} s"),
    ]  # fmt: skip


def _duration(hours: float | None) -> str:
    """Return hours in seconds, minutes or hours."""
    if hours is None:
        return "-"
    seconds = 3600 * hours
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{hours:.1f} h"


def _count(number: int, noun: str, nouns: str = "") -> str:
    """Return a number with its noun, which has an "s" in the plural by default."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def _gib(size: float) -> str:
    return f"{size / _GIB:.2f} GiB"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:.3f} ms"


def _number(value: float | None, unit: float = 1.0) -> str:
    if value is None:
        return "-"
    scaled = value / unit
    return f"{scaled:,.0f}" if scaled >= 100 else f"{scaled:.3g}"
