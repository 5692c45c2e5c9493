"""In what setting the sides of a benchmark meet: backend, dtype, threads, memory and floors."""

import argparse
import dataclasses
from collections.abc import Iterable

import jax
import torch

from benchmarks.floors import Floors, measure_floors
from benchmarks.torch_sides import device, share_machine
from train.runtime.malloc import retain_freed_memory

__all__ = ["Setting", "add_setting_arguments", "set_up"]


@dataclasses.dataclass(frozen=True)
class Setting:
    """What `set_up` found, and in `notes` what of it a page of results should say."""

    gpu: bool
    dtype: str
    floors: Floors | None
    notes: tuple[str, ...]


def add_setting_arguments(parser: argparse.ArgumentParser, dtypes: Iterable[str]) -> None:
    """The flags that `set_up` reads, next to those of `measuring_arguments`."""
    parser.add_argument("--dtype", choices=list(dtypes), help="default: bfloat16 on a GPU")
    parser.add_argument(
        "--return-memory",
        action="store_true",
        help="leave it to the C library what freed memory goes back to the system; otherwise none "
        "does, on any side, as in `python -m train` on a CPU",
    )
    parser.add_argument("--floors", action="store_true", help="measure the floors on a CPU as well")


def set_up(arguments: argparse.Namespace, cpu_devices: int | None = None) -> Setting:
    """To be called before anything is computed: share the machine, and measure its floors.

    Raises:
        ValueError: one framework has a GPU and the other has none.
    """
    share_machine(arguments.threads)
    kept = not arguments.return_memory and retain_freed_memory()
    if cpu_devices is not None:
        jax.config.update("jax_num_cpu_devices", cpu_devices)
    gpu = jax.default_backend() == "gpu"
    if gpu != torch.cuda.is_available():
        raise ValueError(
            f"expected both frameworks on one device, got JAX on {jax.default_backend()!r} and "
            f"PyTorch on {device().type!r}. Probably one was installed without CUDA; or keep both "
            f"on the CPU with JAX_PLATFORMS=cpu and CUDA_VISIBLE_DEVICES="
        )
    dtype = arguments.dtype or ("bfloat16" if gpu else "float32")
    floors = None
    notes = []
    if gpu or arguments.floors:
        floors = measure_floors(dtype, 64, 512) if arguments.quick else measure_floors(dtype)
        notes.append(
            f"A copy moved {floors.bandwidth / 1e9:.0f} GB/s, a matrix product did "
            f"{floors.arithmetic / 1e12:.3g} TFLOP/s."
        )
    notes.append(
        "Memory that was freed stayed with the process, as in `python -m train`."
        if kept
        else "What freed memory went back to the system was left to the C library."
    )
    return Setting(gpu, dtype, floors, tuple(notes))
