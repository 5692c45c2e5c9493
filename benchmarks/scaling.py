"""Estimate the efficiency of training on 8, 64 and 512 TPU chips, without a measurement.

    python -m benchmarks.scaling --model=resnet50_v1d --chip=v5p --batch=128 --step_ms=MEASURED

The estimate is for n chips on a torus with sides d_i, each with its own batch. Communication does
not overlap with computation, which is the worst case:

    gradients  = 2 * (n - 1) / n * 4 bytes * parameters / ring bandwidth
    statistics = batch norms * 4 * hops * hop latency
    hops       = sum of d_i, for both directions
    efficiency = step / (step + gradients + statistics)

A ring uses both directions of one axis, so it has the bandwidth of two links. Synchronized batch
norm averages the mean and the variance, and in the backward pass both of their gradients. These are
four small all-reduces per norm, whose time is latency. `sync_batch_norm=False` has none of them: it
averages the running statistics at the end of a step, together with the gradients.

`--step_ms` is the time of a step on one chip. By default it is estimated as three forward passes at
40 % of the peak, and the output says so.

The peak and the links are those of Google's documentation of TPU v5e and v5p: 197 and 459 TFLOP/s
in bfloat16, and 400 GB/s over 4 links and 1,200 GB/s over 6 links, both directions together. The
latency of 1 microsecond per hop is an assumption.
"""

import argparse
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from rich.console import Console

import aff_jax

__all__ = ["CHIPS", "Chip", "Network", "efficiency", "main", "network", "torus"]

HOP_SECONDS = 1e-6
"""Latency of a hop between two chips, an assumption."""

UTILIZATION = 0.4
"""Share of the peak that the estimate of a step assumes."""


class Chip(NamedTuple):
    """A TPU chip, as documented.

    Attributes:
        peak: FLOP/s in bfloat16.
        link: Bytes/s of a link in one direction.
        axes: Number of axes of the torus.
        largest: Largest number of chips in a torus. More chips use slower networks.
    """

    peak: float
    link: float
    axes: int
    largest: int


CHIPS = {
    "v5e": Chip(197e12, 400e9 / 2 / 4, 2, 256),
    "v5p": Chip(459e12, 1200e9 / 2 / 6, 3, 6144),
}


class Network(NamedTuple):
    """The cost of a network on one chip.

    Attributes:
        parameters: Number of trainable values.
        norms: Number of batch norms.
        forward_flops: FLOPs of the forward pass of a batch.
    """

    parameters: int
    norms: int
    forward_flops: float


def network(name: str, fusion: str, batch: int, size: int) -> Network:
    """Return the cost of a registered network, without running it.

    Args:
        name: Name of the network.
        fusion: Name of the fusion.
        batch: Number of images per chip.
        size: Height and width of an image in pixels.

    Returns:
        Number of parameters and norms, and FLOPs of the forward pass.
    """
    model: nn.Module = aff_jax.create_model(name, fusion)
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    cost = jax.jit(model.apply).lower(variables, image).cost_analysis() or {}
    return Network(
        sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        len(jax.tree.leaves(variables["batch_stats"])) // 2,
        batch * cost.get("flops", math.nan),
    )


def torus(chips: int, axes: int) -> list[int]:
    """Return the sides of the most cubic torus.

    Args:
        chips: Number of chips, a power of two.
        axes: Number of axes of the torus.

    Returns:
        Number of chips along each axis.
    """
    exponent = chips.bit_length() - 1
    return [2 ** (exponent // axes + (axis < exponent % axes)) for axis in range(axes)]


def efficiency(net: Network, chip: Chip, chips: int, step: float, sync: bool) -> float:
    """Return the share of a step that is not communication.

    Args:
        net: Cost of the network.
        chip: The chip.
        chips: Number of chips.
        step: Seconds of a step on one chip.
        sync: True if batch norm is synchronized.

    Returns:
        Share between 0 and 1.
    """
    gradients = 2 * (chips - 1) / chips * 4 * net.parameters / (2 * chip.link)
    hops = sum(torus(chips, chip.axes))
    statistics = net.norms * 4 * hops * HOP_SECONDS if sync else 0.0
    return step / (step + gradients + statistics)


def main() -> None:
    """Print one row per number of chips."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="resnet50_v1d", choices=aff_jax.list_models())
    parser.add_argument("--fusion", default="aff", choices=aff_jax.list_fusions())
    parser.add_argument("--chip", default="v5p", choices=sorted(CHIPS))
    parser.add_argument("--batch", type=int, default=128, help="images per chip")
    parser.add_argument("--size", type=int, default=224, help="height and width of an image")
    parser.add_argument("--step_ms", type=float, help="measured time of a step on one chip")
    arguments = parser.parse_args()
    chip = CHIPS[arguments.chip]
    net = network(arguments.model, arguments.fusion, arguments.batch, arguments.size)
    estimated = 3 * net.forward_flops / (UTILIZATION * chip.peak)
    step = arguments.step_ms / 1e3 if arguments.step_ms else estimated
    console = Console(highlight=False)
    console.print(
        f"{arguments.model}, {arguments.fusion}, {arguments.batch} images per chip on TPU "
        f"{arguments.chip}: {net.parameters:,} parameters, {net.norms} batch norms, step "
        f"{1e3 * step:.1f} ms "
        + ("as measured" if arguments.step_ms else f"estimated at {UTILIZATION:.0%} of the peak")
        + "\n\n| chips | efficiency, batch norm per chip | synchronized batch norm |\n|---|---|---|"
    )
    for chips in (8, 64, 512):
        if chips > chip.largest:
            console.print(f"| {chips} | more than one torus of {chip.largest} chips | |")
            continue
        own, sync = (efficiency(net, chip, chips, step, flag) for flag in (False, True))
        console.print(f"| {chips} | {own:.1%} | {sync:.1%} |")


if __name__ == "__main__":
    main()
