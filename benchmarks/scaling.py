"""Estimate the efficiency of training on 8, 64 and 512 TPU chips, without a measurement.

    python -m benchmarks.scaling --model=resnet50_v1d --chip=v5p --batch=128 --step_ms=MEASURED

The estimate is for n chips on a torus with sides d_i, each with its own batch. Communication does
not overlap with computation, which is the worst case:

    gradients  = 2 * (n - 1) / n * 4 bytes * parameters / ring bandwidth
    statistics = batch norms * 4 * hops * hop latency
    hops       = sum of d_i, for both directions
    efficiency = step / (step + gradients + statistics)

A ring goes in each direction of one axis, so a chip sends over two links. Synchronized batch
norm averages the mean and the variance, and in the backward pass both of their gradients. These are
four small all-reduces per norm, whose time is latency. `sync_batch_norm=False` has none of them: it
averages the running statistics at the end of a step, together with the gradients.

`--step_ms` is the time of a step on one chip. By default it is the one that `train.plan` estimates
from the compiled step, without communication. That needs `pip install -e '.[plan]'` and compiles
for minutes, the first time. `train/plan/chips.py` has the peak, the bandwidth and the links. The
latency of 1 microsecond per hop is an assumption.
"""

import argparse
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from rich.console import Console

import aff_jax
from aff_jax.files.user_cache import user_cache
from configs import imagenet_resnet50_v1d
from train.plan.chips import CHIPS, Chip
from train.plan.estimate import HOP_SECONDS, Plan, communication_seconds, torus
from train.plan.plan_maker import PlanCache, PlanMaker

__all__ = ["SLICES", "Network", "efficiency", "main", "network", "plan_step", "step_seconds"]

SLICES = {"v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2"}
"""The slice for which a step is compiled, by chip."""


class Network(NamedTuple):
    """The size of a network.

    Attributes:
        parameters: Number of trainable values.
        norms: Number of batch norms.
    """

    parameters: int
    norms: int


def network(name: str, fusion: str, size: int) -> Network:
    """Return the size of a registered network, without running it.

    Args:
        name: Name of the network.
        fusion: Name of the fusion.
        size: Height and width of an image in pixels.

    Returns:
        Number of parameters and of norms.
    """
    model: nn.Module = aff_jax.create_model(name, fusion)
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    return Network(
        sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
        len(jax.tree.leaves(variables["batch_stats"])) // 2,
    )


def plan_step(name: str, fusion: str, batch: int, size: int, chip: str, console: Console) -> Plan:
    """Plan a training step of a network with the recipe for ImageNet.

    Args:
        name: Name of the network.
        fusion: Name of the fusion.
        batch: Number of images per chip.
        size: Height and width of an image in pixels.
        chip: Name of the chip in `SLICES`.
        console: Where to report progress.

    Returns:
        The plan on `SLICES[chip]`.
    """
    config = imagenet_resnet50_v1d.get_config()
    config.model, config.fusion, config.image_size = name, fusion, size
    config.batch_size = 4 * batch  # the slices have four chips
    return PlanMaker(SLICES[chip], PlanCache(user_cache("plans")), console).plan(config)


def step_seconds(plan: Plan) -> float:
    """Return the time of a planned step without communication.

    Args:
        plan: The plan.

    Returns:
        Seconds: the longest of the bounds and the compiler's estimate.

    Raises:
        ValueError: If the step does not fit, so that there is no estimate.
    """
    if plan.estimated_step_seconds is None or plan.communication_seconds is None:
        raise ValueError(
            f"expected a batch that fits, got {plan.batch_size // plan.chips} images per chip, "
            f"which do not. Use a smaller --batch."
        )
    return plan.estimated_step_seconds - plan.communication_seconds


def efficiency(net: Network, chip: Chip, chips: int, step: float, sync: bool) -> float:
    """Return the share of a step that is not communication.

    Args:
        net: Size of the network.
        chip: The chip.
        chips: Number of chips.
        step: Seconds of a step on one chip.
        sync: True if batch norm is synchronized.

    Returns:
        Share between 0 and 1.
    """
    gradients = communication_seconds(chip, chips, 4 * net.parameters, 0)
    hops = sum(torus(chips, chip.axes))
    statistics = net.norms * 4 * hops * HOP_SECONDS if sync else 0.0
    return step / (step + gradients + statistics)


def main() -> None:
    """Print one row per number of chips."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="resnet50_v1d", choices=aff_jax.list_models())
    parser.add_argument("--fusion", default="aff", choices=aff_jax.list_fusions())
    parser.add_argument("--chip", default="v5p", choices=sorted(SLICES))
    parser.add_argument("--batch", type=int, default=128, help="images per chip")
    parser.add_argument("--size", type=int, default=224, help="height and width of an image")
    parser.add_argument("--step_ms", type=float, help="measured time of a step on one chip")
    arguments = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    chip = CHIPS[arguments.chip]
    console = Console(highlight=False)
    net = network(arguments.model, arguments.fusion, arguments.size)
    if arguments.step_ms:
        step, source = arguments.step_ms / 1e3, "as measured"
    else:
        planned = (arguments.model, arguments.fusion, arguments.batch, arguments.size)
        step = step_seconds(plan_step(*planned, arguments.chip, console))
        source = "as estimated from the compiled step"
    console.print(
        f"{arguments.model}, {arguments.fusion}, {arguments.batch} images per chip on TPU "
        f"{arguments.chip}: {net.parameters:,} parameters, {net.norms} batch norms, step "
        f"{1e3 * step:.1f} ms {source}"
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
