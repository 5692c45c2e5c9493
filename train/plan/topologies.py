"""TPU slices and GPUs for which programs can be compiled without having them."""

import dataclasses
import importlib.util
import os
import re
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies as jax_topologies

from train.plan.chips import CHIPS, Chip, GpuProperties

__all__ = ["Topology", "compiler_options", "describe_topology"]


@dataclasses.dataclass(frozen=True)
class Topology:
    """The devices of a slice or of some GPUs.

    Attributes:
        name: The name, such as "v5e:4x4".
        chip: Published figures of a chip.
        devices: The devices, for `jax.pmap` or a mesh.
        chips: Number of chips. Some TPU chips are two devices.
        machines: Number of machines, each of which has one process of a run.
    """

    name: str
    chip: Chip
    devices: tuple[Any, ...]
    chips: int
    machines: int

    @property
    def devices_per_chip(self) -> int:
        """Return the number of devices of a chip."""
        return len(self.devices) // self.chips


def describe_topology(name: str) -> Topology:
    """Describe a topology to the compiler for it.

    Args:
        name: "CHIP:LAYOUT" for a TPU slice, such as "v5e:4x4", and "CHIP" or "CHIP:DEVICES" for the
            GPUs of a machine, such as "h100:8".

    Returns:
        The topology.

    Raises:
        ValueError: If there is no such chip or layout.
        ModuleNotFoundError: If the compiler is not installed.
    """
    chip_name, _, layout = name.partition(":")
    if chip_name not in CHIPS:
        known = "; ".join(chip.example_topologies for chip in CHIPS.values())
        similar = [chip for chip in CHIPS.values() if name.startswith(chip.name)]
        hint = (
            f" Write {similar[0].example_topologies.split(', ')[-1]} for example."
            if similar
            else ""
        )
        raise ValueError(f"expected a topology such as {known}, got {name!r}: unknown chip.{hint}")
    chip = CHIPS[chip_name]
    return _tpu_slice(name, chip, layout) if chip.platform == "tpu" else _gpus(name, chip, layout)


def compiler_options(topology: Topology) -> dict[str, Any]:
    """Return the compiler options that compiling without the device needs.

    Args:
        topology: The topology.

    Returns:
        The argument `compiler_options` of `jax.stages.Lowered.compile`.
    """
    if topology.chip.platform == "tpu":
        return {}
    # Autotuning would time kernels on the GPU. Without it, products have Triton's defaults.
    return {"xla_gpu_autotune_level": 0, "xla_gpu_cuda_data_dir": str(_ptxas_directory())}


def _tpu_slice(name: str, chip: Chip, layout: str) -> Topology:
    """Describe a TPU slice to libtpu, which knows all layouts that exist."""
    if importlib.util.find_spec("libtpu") is None:
        raise ModuleNotFoundError(
            f"expected the TPU compiler for the topology {name!r}, but libtpu is not installed. "
            f"Install it with pip install -e '.[train,plan]'."
        )
    # Without these, libtpu asks the metadata server of a Google Cloud machine, which is not there.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_WORKER_ID", "0")
    # Several processes may compile at once; only a real TPU belongs to one process.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    options: dict[str, Any] = {}
    if re.fullmatch(r"1x[12]", layout):
        # By default, libtpu expects all chips of a machine. This slice is a part of one.
        options["chips_per_host_bounds"] = [*map(int, layout.split("x")), 1]
    try:
        description = jax_topologies.get_topology_desc(
            platform="tpu", topology_name=name, **options
        )
    except (jax.errors.JaxRuntimeError, RuntimeError) as error:
        if "INVALID_ARGUMENT" not in str(error):
            raise
        raise ValueError(
            f"expected a layout of {chip.name} such as {chip.example_topologies}, got {name!r}: "
            f"{error}"
        ) from error
    devices: tuple[Any, ...] = tuple(description.devices)
    # Of some chips, each of the two cores is a device. Both have the coordinates of the chip.
    chips = len({tuple(device.coords) for device in devices})
    machines = len({device.process_index for device in devices})
    return Topology(name, chip, devices, chips, machines)


def _gpus(name: str, chip: Chip, count: str) -> Topology:
    """Describe the GPUs of one machine to XLA, which otherwise asks the driver for them."""
    if not re.fullmatch(r"|[1-8]", count):
        raise ValueError(f"expected up to 8 GPUs of a machine as in {chip.name}:8, got {name!r}.")
    if not any(importlib.util.find_spec(f"jax_{x}_plugin") for x in ("cuda12", "cuda13")):
        raise ModuleNotFoundError(
            f"expected the GPU compiler for the topology {name!r}, but JAX's CUDA plugin is not "
            f"installed. Install it with pip install -e '.[train,plan]'."
        )
    devices = int(count or 1)
    assert chip.gpu is not None, chip.name
    description = jax_topologies.get_topology_desc(
        name,
        "cuda",
        target_config=_target_config(chip, chip.gpu),
        topology=f"1x1x{devices}",  # machines, processes, and GPUs of each
    )
    return Topology(name, chip, tuple(description.devices), devices, 1)


def _ptxas_directory() -> Path:
    """Return the directory that has bin/ptxas: of NVIDIA's package, or of an installed CUDA.

    XLA looks for it only where CUDA is usually installed.
    """
    spec = importlib.util.find_spec("nvidia")
    places = (
        [Path(x) / "cuda_nvcc" for x in (spec.submodule_search_locations or [])] if spec else []
    )
    for place in (*places, Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))):
        if (place / "bin" / "ptxas").exists():
            return place
    raise ModuleNotFoundError(
        "expected ptxas, CUDA's assembler, to compile for a GPU, found none. Install it with "
        "pip install -e '.[train,plan]'."
    )


def _target_config(chip: Chip, gpu: GpuProperties) -> str:
    """Return the description of a GPU for XLA, in the text format of its `GpuTargetConfigProto`.

    XLA reads it from the device where there is one. What is not in `GpuProperties` is the same for
    the A100, H100 and H200.
    """
    return f"""gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {gpu.shared_memory + 1024}
  shared_memory_per_block_optin: {gpu.shared_memory}
  threads_per_core_limit: 2048
  core_count: {gpu.core_count}
  fpus_per_core: {128 if gpu.capability >= 9 else 64}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {int(chip.bandwidth)}
  l2_cache_size: {gpu.l2}
  clock_rate_ghz: {gpu.clock / 1e9}
  device_memory_size: {gpu.memory}
  cuda_compute_capability {{ major: {gpu.capability} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{gpu.model}"
"""
