"""Topologies of CPU devices, and plans, for tests without a compiler for other devices."""

import dataclasses

import jax

from train.plan.chips import CHIPS
from train.plan.estimate import estimate
from train.plan.program import CompiledStep
from train.plan.topologies import Topology


def cpu_topology(count=2, chip="v5e"):
    """Return CPU devices in the place of those of a chip."""
    return Topology("cpu", CHIPS[chip], tuple(jax.devices()[:count]), count, 1)


def made_plan(config, *, gib=1.0, text=None, count=2, **fields):
    """Return a plan of a step that needs so many GiB on a device."""
    step = CompiledStep(
        text=text,
        memory=int(gib * 2**30),
        flops=10**9,
        parameters=1000,
        total_steps=100,
        cached_bytes=0,
        seconds=1.0,
    )
    return dataclasses.replace(estimate(config, cpu_topology(count), step), **fields)
