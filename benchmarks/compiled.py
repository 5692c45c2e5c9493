"""Count what the compilers for GPU and TPU make of the modules, without a device.

    python -m benchmarks.compiled

It needs `pip install -e '.[train,plan]'`. A map is one pass over an array of the size of an input
in the device's memory: the bytes of the operands and results of all operations of the compiled
program, divided by those of x. Estimated cycles are the TPU compiler's own. Neither depends on the
load of this machine.

The floor of AFF, forward and backward, is about 16 maps: x and y for the pooled mean and the hidden
layer; x, y and the hidden layer for the result; dy, x, y and the hidden layer for the gradient of
the logits, and again for dx and dy.
"""

import argparse
import importlib.metadata
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding
from rich.console import Console

import aff_jax
from aff_jax.fast import target_platform
from aff_jax.inference import freeze
from benchmarks.results import Row, describe_machine, write_results
from train.plan.hlo import parse
from train.plan.plan_maker import versions
from train.plan.program import compile_traced
from train.plan.topologies import Topology, describe_topology
from train.plan.traffic import Traffic, count_traffic

__all__ = [
    "FUSIONS",
    "PASSES",
    "SHAPES",
    "TOPOLOGIES",
    "count_module",
    "describe_compilers",
    "main",
    "module_row",
]

TOPOLOGIES = ("h100", "v5e:2x2", "v6e:2x2")
"""Where the programs are compiled for; one device of each."""

SHAPES = (((128, 32, 32, 64), 4), ((128, 56, 56, 256), 4), ((256, 14, 14, 1024), 16))
"""Shapes of x and y, with the reduction that the networks have there."""

FUSIONS = ("aff", "iaff")
"""Names of the modules."""


def forward_and_backward(
    module: nn.Module, variables: Any, x: Any
) -> tuple[Callable[..., Any], Any]:
    """Return the pass of training, with its arguments' shapes."""

    def function(variables: Any, x: Any, y: Any, gradient: Any) -> Any:
        def forward(params: Any, x: Any, y: Any) -> Any:
            return module.apply(
                {**variables, "params": params}, x, y, train=True, mutable=["batch_stats"]
            )

        out, backward, new = jax.vjp(forward, variables["params"], x, y, has_aux=True)
        return out, backward(gradient), new

    return function, (variables, x, x, x)


def evaluation(module: nn.Module, variables: Any, x: Any) -> tuple[Callable[..., Any], Any]:
    """Return the pass of evaluation, with its arguments' shapes."""
    return module.apply, (variables, x, x)


def frozen(module: nn.Module, variables: Any, x: Any) -> tuple[Callable[..., Any], Any]:
    """Return the pass of the frozen module, with its arguments' shapes."""
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables)
    folded = freeze(module, zeros, x, x)
    return folded.apply, (_shapes(folded.variables), x, x)


PASSES = {
    "forward and backward": forward_and_backward,
    "evaluation": evaluation,
    "frozen": frozen,
}
"""The passes that are compiled."""


def count_module(
    name: str,
    reduction: int,
    shape: tuple[int, ...],
    topology: Topology,
    program: str = "forward and backward",
    dtype: Any = jnp.bfloat16,
) -> Traffic:
    """Compile a fusion for one device, and count.

    Args:
        name: Name of the fusion.
        reduction: Its reduction.
        shape: Shape of x and of y.
        topology: The topology of the device.
        program: A name in `PASSES`.
        dtype: Dtype of x, y and the computation.

    Returns:
        The counts.

    Raises:
        MemoryError: If the program does not fit into the device.
    """
    fields = {"reduction": reduction} if name in FUSIONS else {}
    module = aff_jax.create_fusion(name, dtype=dtype, **fields)
    small = jax.ShapeDtypeStruct((2, *(2 for _ in shape[1:-1]), shape[-1]), dtype)
    variables = jax.eval_shape(module.init, jax.random.key(0), small, small)
    variables = {"batch_stats": {}, "params": {}, **variables}
    x = jax.ShapeDtypeStruct(shape, dtype)
    function, arguments = PASSES[program](module, variables, x)
    sharding = SingleDeviceSharding(topology.devices[0])
    with target_platform(topology.chip.platform):
        lowered = jax.jit(function, in_shardings=sharding).lower(*arguments)
    text, memory, _ = compile_traced(lowered, topology)
    if text is None:
        raise MemoryError(f"{name} at {shape} needs {memory / 2**30:.1f} GiB.")
    return count_traffic(parse(text))


def module_row(
    name: str, reduction: int, shape: tuple[int, ...], topologies: Sequence[Topology], program: str
) -> Row:
    """Return a row of the table: maps and kernels on a GPU, maps and Mcycles on a TPU."""
    row: dict[str, Any] = {"module": name, "shape": "x".join(map(str, shape)), "r": reduction}
    for topology in topologies:
        traffic = count_module(name, reduction, shape, topology, program)
        device = topology.name.partition(":")[0]
        row[f"{device} maps"] = traffic.bytes / (2 * math.prod(shape))
        if topology.chip.platform == "gpu":
            row[f"{device} kernels"] = traffic.executed
        else:
            row[f"{device} Mcycles"] = traffic.cycles / 1e6
    return row


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile everything, and write the tables.

    Args:
        arguments: Flags; those of the command by default.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--topologies", nargs="+", default=list(TOPOLOGIES))
    parser.add_argument("--quick", action="store_true", help="one small shape")
    parser.add_argument("--output", default=str(Path(__file__).parent / "results"))
    options = parser.parse_args(arguments)
    jax.config.update("jax_platforms", "cpu")
    console = Console(highlight=False)
    topologies = [describe_topology(name) for name in options.topologies]
    shapes = (((8, 8, 8, 64), 4),) if options.quick else SHAPES
    tables: dict[str, list[Row]] = {}
    for program in PASSES:
        tables[program] = []
        for name in FUSIONS:
            for shape, reduction in shapes:
                row = module_row(name, reduction, shape, topologies, program)
                tables[program].append(row)
                console.print(program, row, soft_wrap=True)
    notes = [
        "A map is one pass over an array of the size of x in the device's memory; Mcycles are the "
        "TPU compiler's estimate. Nothing was run on these devices.",
        describe_compilers(),
    ]
    flags = ["--quick"] if options.quick else []
    machine = describe_machine(1)
    title = "Modules compiled for GPU and TPU"
    console.print(
        write_results(options.output, "compiled", title, tables, notes, machine, flags),
        soft_wrap=True,
    )


def describe_compilers() -> str:
    """Return a sentence with the versions of the compilers."""
    compilers = ", ".join(f"{k} {v}" for k, v in versions().items())
    return f"Compilers: {compilers}, nvcc {_version('nvidia-cuda-nvcc-cu12')}."


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
