"""Results of a benchmark: a Markdown page with tables, and the same in JSON."""

import importlib.metadata
import json
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

__all__ = ["describe_machine", "markdown_table", "write_results"]

Row = Mapping[str, Any]


def describe_machine(threads: int) -> dict[str, Any]:
    """Return the processor, accelerator, cores, threads and versions, as JSON values."""
    accelerators = [d for d in jax.devices() if d.platform != "cpu"]
    versions = {}
    for package in ("jax", "jaxlib", "flax", "torch", "mxnet", "numpy"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "accelerator": accelerators[0].device_kind if accelerators else "none",
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    """Return the model of the processor and its widest vectors.

    The name alone is not enough: in a virtual machine it may be generic.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    flags = set(found.get("flags", "").split())
    widest = next((f" with {f.upper()}" for f in ("avx512f", "avx2") if f in flags), "")
    name = found.get("model name", platform.machine())
    return (
        f"{name} (family {found.get('cpu family', '?')}, model {found.get('model', '?')}){widest}"
    )


def markdown_table(rows: Sequence[Row]) -> str:
    """Return rows with the same columns as a Markdown table with three significant digits."""
    columns = list(rows[0])
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(_cell(row[column]) for column in columns)} |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}"
    return str(value)


def write_results(
    output: str | Path,
    name: str,
    title: str,
    tables: Mapping[str, Sequence[Row]],
    notes: Sequence[str],
    machine: Mapping[str, Any],
    flags: Sequence[str] = (),
) -> str:
    """Write the results as `name`.md and `name`.json.

    Args:
        output: Directory of both files.
        name: Name of the benchmark.
        title: Title of the page.
        tables: Rows of each table, by heading.
        notes: Paragraphs below the tables.
        machine: Description by `describe_machine`.
        flags: Flags of the command.

    Returns:
        Text of the Markdown page.
    """
    command = shlex.join(["python", "-m", f"benchmarks.{name}", *flags])
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    parts = [
        f"# {title}",
        f"`{command}` on {machine['processor']}, {machine['cores']} cores, "
        f"{machine['threads']} threads, accelerator: {machine['accelerator']}; {versions}, "
        f"Python {machine['python']}.",
    ]
    for heading, rows in tables.items():
        parts += [f"## {heading}", markdown_table(rows)]
    page = "\n\n".join([*parts, *notes]) + "\n"
    directory = Path(output)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.md").write_text(page)
    record = {"machine": machine, "tables": tables, "notes": notes}
    (directory / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    return page
