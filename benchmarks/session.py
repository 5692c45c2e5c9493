"""Setup and results of the benchmarks that compare with PyTorch in one process."""

import argparse
import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import torch
from rich.console import Console

from benchmarks.floors import Floors, measure_floors
from benchmarks.plots import draw_sides
from benchmarks.results import describe_machine, write_results
from benchmarks.torch_sides import device, share_machine
from train.runtime.malloc import retain_freed_memory

__all__ = ["Session", "add_session_arguments", "start_session"]


@dataclasses.dataclass(frozen=True)
class Session:
    """One run of a benchmark.

    Attributes:
        arguments: The parsed flags.
        flags: The flags as given, for the results page.
        rounds: Number of rounds that count.
        gpu: True if the benchmark runs on a GPU.
        dtype: Dtype of the computation.
        floors: Measured rates of the device, or None.
        notes: Notes on the setup, for the results page.
        console: Output of the benchmark.
    """

    arguments: argparse.Namespace
    flags: Sequence[str]
    rounds: int
    gpu: bool
    dtype: str
    floors: Floors | None
    notes: tuple[str, ...]
    console: Console

    def log(self, message: str) -> None:
        """Print a line of progress."""
        self.console.print(message, style="dim")

    def publish(
        self,
        name: str,
        title: str,
        tables: Mapping[str, Sequence[Mapping[str, Any]]],
        notes: Sequence[str],
        speedups: Mapping[str, Mapping[str, Mapping[str, float]]],
        label: str,
    ) -> None:
        """Print the results and write them to the output directory.

        Args:
            name: Name of the benchmark and of its files.
            title: Title of the page.
            tables: Tables by heading.
            notes: Paragraphs below the tables, before the notes on the setup.
            speedups: Values of the plot by panel, case and side.
            label: Label of the plot's axis.
        """
        machine = describe_machine(self.arguments.threads)
        output = Path(self.arguments.output)
        notes = [*notes, *self.notes]
        self.console.print(write_results(output, name, title, tables, notes, machine, self.flags))
        draw_sides(speedups, label, output / f"{name}.png")


def add_session_arguments(parser: argparse.ArgumentParser, dtypes: Iterable[str]) -> None:
    """Add the flags that `start_session` reads, in addition to those of `make_parser`."""
    parser.add_argument(
        "--dtype", choices=list(dtypes), help="default: bfloat16 on a GPU, otherwise float32"
    )
    parser.add_argument(
        "--return-memory",
        action="store_true",
        help="let the C library return freed memory to the system; by default the process retains "
        "it for all sides, as `python -m train` does on a CPU",
    )
    parser.add_argument("--floors", action="store_true", help="measure the floors on a CPU too")


def start_session(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, device_per_thread: bool = False
) -> Session:
    """Parse the flags and configure both frameworks. Must be called before any computation.

    Args:
        parser: Parser with the flags of `make_parser` and `add_session_arguments`.
        argv: The flags, or None for those of the process.
        device_per_thread: Give JAX one CPU device per thread of PyTorch.

    Returns:
        The session.

    Raises:
        ValueError: If only one of the frameworks has a GPU.
    """
    flags = sys.argv[1:] if argv is None else argv
    arguments = parser.parse_args(flags)
    share_machine(arguments.threads)
    retained = not arguments.return_memory and retain_freed_memory()
    if device_per_thread:
        jax.config.update("jax_num_cpu_devices", arguments.threads)
    gpu = jax.default_backend() == "gpu"
    if gpu != torch.cuda.is_available():
        raise ValueError(
            f"expected both frameworks on the same device, got JAX on {jax.default_backend()!r} "
            f"and PyTorch on {device().type!r}. One of them was probably installed without CUDA. "
            f"To run both on the CPU, set JAX_PLATFORMS=cpu and CUDA_VISIBLE_DEVICES="
        )
    dtype = arguments.dtype or ("bfloat16" if gpu else "float32")
    floors = None
    notes = []
    if gpu or arguments.floors:
        floors = measure_floors(dtype, 64, 512) if arguments.quick else measure_floors(dtype)
        notes.append(
            f"Measured rates: {floors.bandwidth / 1e9:.0f} GB/s for a copy, "
            f"{floors.arithmetic / 1e12:.3g} TFLOP/s for a matrix product."
        )
    notes.append(
        "The process retained freed memory, as `python -m train` does on a CPU."
        if retained
        else "The C library decided which freed memory it returned to the system."
    )
    return Session(
        arguments=arguments,
        flags=flags,
        rounds=1 if arguments.quick else arguments.rounds,
        gpu=gpu,
        dtype=dtype,
        floors=floors,
        notes=tuple(notes),
        console=Console(highlight=False, soft_wrap=True),
    )
