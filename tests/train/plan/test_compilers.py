"""Training steps compiled for TPU slices and a GPU, by the compilers of the extra `plan`."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding

from aff_jax.fast import target_platform
from configs import cifar10_resnet32, digit_scenes, digits
from tests.train.plan.compilers import require_topology
from train.data.augment.color import equalize
from train.data.augment.crop import pad_and_crop
from train.plan.chips import CHIPS
from train.plan.estimate import Plan, estimate
from train.plan.hlo import parse
from train.plan.program import compile_step, compile_traced
from train.plan.topologies import describe_topology
from train.plan.traffic import count_traffic

pytestmark = [pytest.mark.slow, pytest.mark.optimized]


def cifar_with_one_block_per_stage():
    config = cifar10_resnet32.get_config()
    config.model = "cifar_resnet8"
    return config


PLANS: dict[tuple[str, str], Plan] = {}


def plan_of(config, name):
    """Return the plan of a config. Tests share those of equal configs."""
    key = name, config.to_json()
    if key not in PLANS:
        topology = require_topology(name)
        PLANS[key] = estimate(config, topology, compile_step(config, topology))
    return PLANS[key]


@pytest.mark.parametrize("parallel", ["pmap", "shard_map"])
@pytest.mark.parametrize(
    "make", [digits.get_config, cifar_with_one_block_per_stage, digit_scenes.get_config]
)
def test_the_training_step_compiles_for_a_slice(make, parallel):
    config = make()
    config.parallel = parallel
    plan = plan_of(config, "v5e:2x2")
    assert plan.fits
    assert (plan.chips, plan.devices, plan.machines) == (4, 4, 1)
    assert plan.compiler_seconds is not None
    # The gradients of all parameters are averaged.
    assert plan.collective_bytes["all-reduce"] >= 4 * plan.parameters
    assert plan.operations[0].cycles > 0
    # Mixup draws from a beta distribution, in a loop that ends when all values are accepted.
    assert all("_gamma" in loop for loop in plan.loops_counted_once)


@pytest.mark.parametrize("parallel", ["pmap", "shard_map"])
def test_the_training_step_compiles_for_several_machines(parallel):
    config = digits.get_config()
    config.parallel = parallel
    config.sync_batch_norm = False
    plan = plan_of(config, "v5e:4x4")
    assert (plan.chips, plan.machines) == (16, 4)
    # Without synchronized batch norm, no norm has all-reduces of its own.
    assert plan.collectives["all-reduce"] < 10


def test_microbatches_are_counted_as_often_as_they_run():
    config = digits.get_config()
    # AFF chooses how it computes the moments of a norm by the size of the batch.
    config.fusion = "add"
    whole = plan_of(config, "v5e:2x2")
    config.accumulation = 4
    parts = plan_of(config, "v5e:2x2")
    assert parts.flops_per_step == whole.flops_per_step
    # Four small passes take longer than a large one.
    assert parts.compiler_seconds > whole.compiler_seconds
    assert parts.collectives["all-reduce"] > whole.collectives["all-reduce"]


def test_the_training_step_compiles_for_gpus():
    plan = plan_of(digits.get_config(), "h100:2")
    assert (plan.chips, plan.fits, plan.compiler_seconds) == (2, True, None)
    assert plan.bytes_per_step > 0
    assert plan.collective_bytes["all-reduce"] >= 4 * plan.parameters


def test_a_program_that_is_too_large_does_not_fit():
    config = digit_scenes.get_config()
    config.image_size = 1024
    config.batch_size = 512
    plan = plan_of(config, "v5e:2x2")
    assert not plan.fits
    assert plan.memory_bytes_per_chip > plan.available_bytes_per_chip


def traffic_on_a_tpu(function, *arguments):
    """Compile a function for one chip of v5e, and count."""
    topology = require_topology("v5e:2x2")
    sharding = SingleDeviceSharding(topology.devices[0])
    with target_platform("tpu"):
        lowered = jax.jit(function, in_shardings=sharding).lower(*arguments)
    text, _, _ = compile_traced(lowered, topology)
    return count_traffic(parse(text))


def test_equalize_on_a_tpu_compares_no_pixel_with_256_values_and_gathers_none():
    images = jax.ShapeDtypeStruct((128, 224, 224, 3), jnp.uint8)
    traffic = traffic_on_a_tpu(jax.vmap(equalize), images)
    # 7.4 million with libtpu 0.0.42.1; comparisons with 256 values took 51.5 million, and a gather.
    assert traffic.cycles <= 1.05 * 7.4e6
    assert not traffic.without_estimate


def test_a_random_crop_on_a_tpu_has_no_loop_over_the_images():
    images = jax.ShapeDtypeStruct((128, 32, 32, 3), jnp.uint8)
    traffic = traffic_on_a_tpu(lambda images: pad_and_crop(jax.random.key(0), images, 4), images)
    # 54 thousand with libtpu 0.0.42.1; a slice per image took 1.6 million, in a loop.
    assert traffic.cycles <= 1.05 * 54e3


@pytest.mark.parametrize("name", ["v5e:3x3", "v5e", "v5e:big"])
def test_an_unknown_layout_is_refused_with_those_that_exist(name):
    require_topology("v5e:2x2")
    with pytest.raises(ValueError, match=rf"layout of v5e such as v5e:1x1.*got '{name}'"):
        describe_topology(name)


def test_a_part_of_a_host_is_a_topology():
    assert require_topology("v5e:1x1").chips == 1


@pytest.mark.parametrize("chip", [x for x in CHIPS.values() if x.platform == "tpu"])
def test_the_memory_of_a_chip_is_what_its_compiler_allows(chip):
    topology = require_topology(chip.example_topologies.split(", ")[0])
    sharding = SingleDeviceSharding(topology.devices[0])
    array = jax.ShapeDtypeStruct((2**30, 128), jnp.float32)
    with pytest.raises(jax.errors.JaxRuntimeError) as error:
        jax.jit(jnp.negative, in_shardings=sharding).lower(array).compile()
    available = re.search(r"available HBM \(([\d.]+)G\)", str(error.value))
    assert available is not None, error.value
    gib = float(available[1]) * topology.devices_per_chip
    assert gib == pytest.approx(chip.memory / 2**30, abs=0.01)
