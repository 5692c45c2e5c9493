"""Count what the compilers for GPU and TPU make of training steps of networks, without a device.

    python -m benchmarks.compiled_networks

It needs `pip install -e '.[train,plan]'`. A step takes minutes to compile; finished ones are kept
in the cache of `python -m train.plan`. Estimated cycles are the TPU compiler's own.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from rich.console import Console

from aff_jax.files.user_cache import user_cache
from benchmarks.compiled import TOPOLOGIES, describe_compilers
from benchmarks.results import Row, describe_machine, write_results
from configs import cifar10_resnet32, imagenet_resnet50_v1d
from train.plan.plan_maker import PlanCache, PlanMaker
from train.plan.topologies import Topology, describe_topology

__all__ = ["BATCH", "CONFIGS", "FUSIONS", "main", "step_config", "step_counts"]

BATCH = 128
"""Images on each chip."""

CONFIGS = {
    "cifar_resnet32 width 4": cifar10_resnet32.get_config,
    "resnet50_v1d": imagenet_resnet50_v1d.get_config,
}
"""Configs by the names of their networks."""

FUSIONS = ("add", "aff", "iaff")
"""Names of the fusions."""


def step_config(network: str, fusion: str, devices: int) -> ConfigDict:
    """Return the config of a step in bfloat16 whose chips do not communicate in the forward pass.

    Args:
        network: Name in `CONFIGS`.
        fusion: Name of the fusion.
        devices: Number of chips.
    """
    config = CONFIGS[network]()
    config.fusion = fusion
    config.dtype = "bfloat16"
    config.sync_batch_norm = False
    config.batch_size = BATCH * devices
    return config


def step_counts(config: ConfigDict, topology: Topology, console: Console) -> Row:
    """Compile a step, and return its counts on one chip.

    Args:
        config: Config by `step_config`.
        topology: The topology.
        console: Where progress is shown.

    Returns:
        `GB` moved in the chip's memory, `kernels` of a GPU or `Mcycles` of a TPU, and `GiB` of
        memory that the step needs.
    """
    plan = PlanMaker(topology.name, PlanCache(user_cache("plans")), console).plan(config)
    counts: dict[str, Any] = {"GB": (plan.bytes_per_step or 0) / plan.devices / 1e9}
    if topology.chip.platform == "gpu":
        counts["kernels"] = plan.operations_per_step
    else:
        counts["Mcycles"] = (plan.compiler_seconds or 0.0) * topology.chip.clock / 1e6
    return {**counts, "GiB": plan.memory_bytes_per_chip / 2**30}


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile the steps, and write the table.

    Args:
        arguments: Flags; those of the command by default.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(CONFIGS), choices=list(CONFIGS))
    parser.add_argument("--fusions", nargs="+", default=list(FUSIONS))
    parser.add_argument("--topologies", nargs="+", default=list(TOPOLOGIES))
    parser.add_argument("--output", default=str(Path(__file__).parent / "results"))
    options = parser.parse_args(arguments)
    jax.config.update("jax_platforms", "cpu")
    console = Console(highlight=False)
    topologies = [describe_topology(name) for name in options.topologies]
    rows: list[Row] = []
    for network in options.networks:
        for fusion in options.fusions:
            row: dict[str, Any] = {"network": network, "fusion": fusion}
            for topology in topologies:
                config = step_config(network, fusion, len(topology.devices))
                device = topology.name.partition(":")[0]
                counts = step_counts(config, topology, console)
                row |= {f"{device} {unit}": count for unit, count in counts.items()}
            rows.append(row)
            console.print(row, soft_wrap=True)
    flags = [
        "--networks",
        *options.networks,
        "--fusions",
        *options.fusions,
        "--topologies",
        *options.topologies,
    ]
    notes = [
        f"One chip, {BATCH} images a chip, bfloat16. GB are the bytes that a step moves in the "
        "chip's memory, GiB the memory it needs; Mcycles are the TPU compiler's estimate. Nothing "
        "was run on these devices.",
        describe_compilers(),
    ]
    page = write_results(
        options.output,
        "compiled_networks",
        "Training steps compiled for GPU and TPU",
        {"training step": rows},
        notes,
        describe_machine(1),
        flags,
    )
    console.print(page, soft_wrap=True)


if __name__ == "__main__":
    main()
