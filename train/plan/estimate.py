"""Estimate what a run needs and costs from its compiled training step."""

import dataclasses
import math

from ml_collections import ConfigDict

from train.plan.chips import Chip
from train.plan.hlo import parse
from train.plan.program import CompiledStep
from train.plan.topologies import Topology
from train.plan.traffic import Operation, Traffic, count_traffic

__all__ = ["HOP_SECONDS", "Plan", "communication_seconds", "estimate", "torus"]

HOP_SECONDS = 1e-6
"""Latency of a hop between two chips, an assumption: no vendor documents it."""

_SHOWN_OPERATIONS = 10


@dataclasses.dataclass(frozen=True)
class Plan:
    """The memory, cost and duration of a run of a config on a topology.

    FLOPs and bytes of a step are for all chips together, except where the description says
    otherwise. Values of a step are None if the program does not fit and the compiler returns none.

    Attributes:
        model: Name of the network.
        fusion: Name of the fusion.
        dtype: Dtype of the computation.
        parallel: "pmap" or "shard_map".
        batch_size: Global batch size.
        accumulation: Number of microbatches of each device.
        topology: Name of the topology.
        chips: Number of chips.
        devices: Number of devices; some TPU chips are two.
        machines: Number of machines, each of which has one process.
        fits: Whether the run fits into the memory of its chips.
        memory_bytes_per_chip: Memory that a chip needs: state, batch, temporaries, program, and the
            dataset if it is cached.
        available_bytes_per_chip: Memory of a chip that a program may use.
        cached_bytes_per_chip: Part of the memory that caches the dataset.
        parameters: Number of trainable parameters.
        flops_per_step: FLOPs of the matrix products and convolutions.
        bytes_per_step: Bytes of operands and results in the memory of the chips.
        operations_per_step: Number of operations that one device executes; on a GPU, each is a
            kernel.
        compute_seconds: Shortest time of a step by the peak of the chips.
        memory_seconds: Shortest time of a step by the bandwidth of their memory.
        compiler_seconds: The compiler's estimate of a step without communication; None on a GPU.
        communication_seconds: Estimate of the collectives, as if nothing overlapped with them.
        estimated_step_seconds: The longest of the three times, and the communication.
        images_per_second: Training examples per second by the estimate.
        steps: Number of steps of the run.
        hours: Hours of all training steps of the run by the estimate.
        collectives: Number of collectives of each kind on one device.
        collective_bytes: Bytes of their operands on one device, by kind.
        operations: The ten most expensive operations of one device.
        loops_counted_once: Names of the loops of unknown length in the program, which count once.
        without_estimate: Modules of the large gathers and scatters for which the compiler has no
            estimate.
        compile_seconds: Time that compiling took.
    """

    model: str
    fusion: str
    dtype: str
    parallel: str
    batch_size: int
    accumulation: int
    topology: str
    chips: int
    devices: int
    machines: int
    fits: bool
    memory_bytes_per_chip: int
    available_bytes_per_chip: int
    cached_bytes_per_chip: int
    parameters: int
    flops_per_step: int
    bytes_per_step: int | None
    operations_per_step: int | None
    compute_seconds: float
    memory_seconds: float | None
    compiler_seconds: float | None
    communication_seconds: float | None
    estimated_step_seconds: float | None
    images_per_second: float | None
    steps: int
    hours: float | None
    collectives: dict[str, int]
    collective_bytes: dict[str, int]
    operations: tuple[Operation, ...]
    loops_counted_once: list[str]
    without_estimate: list[str]
    compile_seconds: float


def estimate(config: ConfigDict, topology: Topology, step: CompiledStep) -> Plan:
    """Estimate a run from its compiled step.

    The estimate of a step is::

        step = max(FLOPs / peak, bytes / bandwidth, cycles / clock) + communication

    Args:
        config: The config of the run.
        topology: The devices.
        step: The compiled step.

    Returns:
        The plan.
    """
    chip, count = topology.chip, topology.devices_per_chip
    memory = count * (step.memory + step.cached_bytes)
    fits = step.text is not None and memory <= chip.memory
    peak = chip.peak_float32 if config.dtype == "float32" else chip.peak
    compute = count * step.flops / peak
    traffic = count_traffic(parse(step.text)) if step.text is not None else None
    times = _times(traffic, topology, compute) if traffic else dict.fromkeys(_TIMES)
    seconds = times["estimated_step_seconds"]
    return Plan(
        model=config.model,
        fusion=config.fusion,
        dtype=config.dtype,
        parallel=config.parallel,
        batch_size=config.batch_size,
        accumulation=config.accumulation,
        topology=topology.name,
        chips=topology.chips,
        devices=len(topology.devices),
        machines=topology.machines,
        fits=fits,
        memory_bytes_per_chip=memory,
        available_bytes_per_chip=chip.memory,
        cached_bytes_per_chip=count * step.cached_bytes,
        parameters=step.parameters,
        flops_per_step=len(topology.devices) * step.flops,
        bytes_per_step=len(topology.devices) * traffic.bytes if traffic else None,
        operations_per_step=traffic.executed if traffic else None,
        compute_seconds=compute,
        images_per_second=config.batch_size / seconds if seconds else None,
        steps=step.total_steps,
        hours=step.total_steps * seconds / 3600 if seconds else None,
        collectives=traffic.collectives if traffic else {},
        collective_bytes=traffic.collective_bytes if traffic else {},
        operations=traffic.operations[:_SHOWN_OPERATIONS] if traffic else (),
        loops_counted_once=list(traffic.loops_counted_once) if traffic else [],
        without_estimate=list(traffic.without_estimate) if traffic else [],
        compile_seconds=step.seconds,
        **times,
    )


_TIMES = ("memory_seconds", "compiler_seconds", "communication_seconds", "estimated_step_seconds")


def _times(traffic: Traffic, topology: Topology, compute: float) -> dict[str, float | None]:
    """Return the times of `_TIMES`, which a program that does not fit lacks."""
    chip = topology.chip
    memory = topology.devices_per_chip * traffic.bytes / chip.bandwidth
    compiler = traffic.cycles / chip.clock if chip.clock and traffic.cycles else None
    communication = communication_seconds(
        chip,
        topology.chips,
        sum(traffic.collective_bytes.values()),
        sum(traffic.collectives.values()),
    )
    longest = max(compute, memory, compiler or 0.0)
    return dict(
        zip(_TIMES, (memory, compiler, communication, longest + communication), strict=True)
    )


def communication_seconds(chip: Chip, chips: int, size: float, count: int) -> float:
    """Estimate the time of all-reduces, of which none overlaps with computation.

    The estimate is::

        seconds = 2 (n - 1) / n * bytes / ring bandwidth + count * hops * hop latency

    A ring goes in each direction of one axis of the torus, so a chip sends over two links. The hops
    are the sum of the sides of the torus, for both directions.

    Args:
        chip: The chip.
        chips: Number n of chips.
        size: Bytes of the operands on one chip.
        count: Number of all-reduces.

    Returns:
        The time in seconds.
    """
    hops = sum(torus(chips, chip.axes)) if chip.axes else 1
    latency = count * hops * HOP_SECONDS if chips > 1 else 0.0
    return 2 * (chips - 1) / chips * size / chip.ring_bandwidth + latency


def torus(chips: int, axes: int) -> list[int]:
    """Return the sides of the most cubic torus.

    Args:
        chips: Number of chips; its powers of two are distributed over the axes.
        axes: Number of axes of the torus.

    Returns:
        Number of chips along each axis.
    """
    exponent = math.ceil(math.log2(chips))
    return [2 ** (exponent // axes + (axis < exponent % axes)) for axis in range(axes)]
