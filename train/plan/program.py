"""Compile the training step of a config for devices that this machine does not have."""

import contextlib
import dataclasses
import math
import re
import time
from collections.abc import Iterator
from typing import Any, TypeVar

import jax
import numpy as np
from ml_collections import ConfigDict

from aff_jax.fast.rule import target_platform
from aff_jax.inspection import count_parameters
from aff_jax.lookup import look_up
from train.config_checks import check_config
from train.data.sources.data_source import Source
from train.plan.dataset_shapes import open_shapes
from train.plan.flops import count_product_flops
from train.plan.topologies import Topology, compiler_options
from train.setup import Run, make_run_from_splits
from train.steps.parallel import AXIS, PARALLEL, Parallel, check_batch_size
from train.steps.precision import DTYPES

__all__ = ["CompiledStep", "compile_step", "compile_traced", "used_bytes"]

T = TypeVar("T")

_ALL_NEEDED = re.compile(r"memory space hbm\. Used ([\d.]+)([KMGT]?) of")
"""Report of the TPU compiler on a program that does not fit, with the total."""

_TEMPORARIES = re.compile(r"HLO temporaries \(([\d.]+)([KMGT]?)\) exceeds available HBM")
"""Its other report, which has only the temporaries."""


@dataclasses.dataclass(frozen=True)
class CompiledStep:
    """The compiled training step of a config.

    Attributes:
        text: Text of the compiled program, None if it needs more memory than the compiler allows.
        memory: Bytes on a device: arguments, results, temporaries and code. If the program does not
            fit, what the compiler would have needed.
        flops: FLOPs of the matrix products and convolutions of one device.
        parameters: Number of trainable parameters.
        total_steps: Number of steps of the run.
        cached_bytes: Bytes of the dataset, if it is cached on every device.
        seconds: Time that compiling took.
    """

    text: str | None
    memory: int
    flops: int
    parameters: int
    total_steps: int
    cached_bytes: int
    seconds: float


class _OneDevice(Parallel):
    """A stand-in for `Parallel` that keeps the step of one device and places no arrays."""

    def __init__(self) -> None:
        self.devices = self.local_devices = []

    def compile(self, step: Any, *, donate_state: bool = False) -> Any:
        return step

    def replicate(self, state: T) -> T:
        return state

    # Abstract in `Parallel`, and used only where arrays are placed.
    _mesh: Any = None

    def _split(self, x: Any) -> Any:
        return x

    def _map(self, step: Any, donate_argnums: tuple[int, ...]) -> Any:
        return step


def compile_step(config: ConfigDict, topology: Topology) -> CompiledStep:
    """Compile the training step of a config. No array is placed on a device of the topology.

    Args:
        config: The config.
        topology: The devices.

    Returns:
        The compiled step.

    Raises:
        ValueError: If a field of the config has an invalid value, the devices do not
            divide the batch, or the batch is larger than the dataset.
    """
    check_config(config)
    look_up(DTYPES, "dtype", config.dtype)
    strategy = look_up(PARALLEL, "parallel", config.parallel)
    check_batch_size(config.batch_size, len(topology.devices), config.accumulation)
    source = open_shapes(config)
    if config.batch_size > len(source):
        raise ValueError(
            f"expected a batch_size of at most the {len(source):,} training examples of "
            f"{config.dataset!r}, got {config.batch_size:,}."
        )
    # The initial weights are made on the CPU, which takes seconds; their values are not used.
    run = make_run_from_splits(config, source, source, _OneDevice(), from_checkpoint=True)
    state = jax.tree.map(_shape, run.state)
    count = len(topology.devices)
    local = _batch(source, config.batch_size // count)
    with target_platform(topology.chip.platform):
        jaxpr = jax.make_jaxpr(run.train_step, axis_env=[(AXIS, count)])(state, local)
        lowered = strategy(topology.devices).lower_train_step(
            run.train_step, state, _batch(source, config.batch_size)
        )
    argument_bytes = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves((state, local)))
    text, memory, seconds = compile_traced(lowered, topology, argument_bytes)
    return CompiledStep(
        text=text,
        memory=memory,
        flops=count_product_flops(jaxpr),
        parameters=count_parameters(run.state.params),
        total_steps=run.epochs.total_steps,
        cached_bytes=_device_cache_bytes(config, run),
        seconds=seconds,
    )


def compile_traced(
    lowered: jax.stages.Lowered, topology: Topology, argument_bytes: int = 0
) -> tuple[str | None, int, float]:
    """Compile a lowered program.

    Args:
        lowered: The program, lowered for devices of the topology.
        topology: The topology.
        argument_bytes: Bytes of the arguments on a device.

    Returns:
        A tuple of the program's text, None if it needs too much memory, its bytes of memory on a
        device, and the seconds that compiling took.
    """
    start = time.perf_counter()
    try:
        with _nothing_written_to_jax_cache():
            compiled = lowered.compile(compiler_options=compiler_options(topology))
    except jax.errors.JaxRuntimeError as error:
        used = used_bytes(str(error), argument_bytes)
        if used is None:
            raise
        return None, used, time.perf_counter() - start
    stats: Any = compiled.memory_analysis()
    memory = (
        stats.argument_size_in_bytes
        + stats.output_size_in_bytes
        - stats.alias_size_in_bytes
        + stats.temp_size_in_bytes
        + stats.generated_code_size_in_bytes
    )
    return compiled.as_text(), memory, time.perf_counter() - start


@contextlib.contextmanager
def _nothing_written_to_jax_cache() -> Iterator[None]:
    """Keep JAX from writing programs to its persistent cache.

    It can write a program of an absent device, but not load it: the next call would warn and
    compile again.
    """
    name = "jax_persistent_cache_min_compile_time_secs"
    before = jax.config.values[name]
    jax.config.update(name, math.inf)
    try:
        yield
    finally:
        jax.config.update(name, before)


def used_bytes(message: str, argument_bytes: int = 0) -> int | None:
    """Return how many bytes a program needs that does not fit.

    Args:
        message: Message of the TPU compiler.
        argument_bytes: Bytes of the arguments on a device, for a message about temporaries alone.

    Returns:
        The bytes, or None if the message is about something else.
    """
    temporaries = _TEMPORARIES.search(message)
    match = temporaries or _ALL_NEEDED.search(message)
    if not match:
        return None
    needed = int(float(match[1]) * 2 ** (10 * " KMGT".index(match[2] or " ")))
    return needed + argument_bytes if temporaries else needed


def _device_cache_bytes(config: ConfigDict, run: Run) -> int:
    """Return the bytes that a run caches on every device, 0 if every batch is sent to them."""
    size = run.train_source.nbytes
    caches = size <= config.device_cache_mib * 2**20 and not config.random_resized_crop
    return size if caches else 0


def _shape(x: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(x), x.dtype)


def _batch(source: Source, size: int) -> dict[str, jax.ShapeDtypeStruct]:
    return {
        "image": jax.ShapeDtypeStruct((size, *source.image_shape), np.uint8),
        "label": jax.ShapeDtypeStruct((size, *source.label_shape), np.int32),
        "index": jax.ShapeDtypeStruct((size,), np.int32),
    }
