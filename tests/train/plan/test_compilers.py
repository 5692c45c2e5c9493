"""Programs compiled for TPU and GPU, by compilers that the extra `plan` installs.

`make test-plan` requires them. Elsewhere these tests are skipped where they are missing.
"""

import importlib.util
import os

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding

import aff_jax
from aff_jax.inference import freeze
from configs import cifar10_resnet32, digit_scenes
from configs import digits as digits_config
from train.plan.estimate import estimate
from train.plan.hlo import parse
from train.plan.program import compile_step, compile_traced
from train.plan.topologies import describe_topology
from train.plan.traffic import count_traffic

pytestmark = [pytest.mark.slow, pytest.mark.optimized]

# Counts of the forward and backward pass at 128x32x32x64 in bfloat16, with jax 0.10.2 and
# libtpu 0.0.42.1: bytes in maps of 16.8 MB, kernels of the GPU, and Mcycles of the TPU.
RECORDED = {
    ("aff", "h100"): (29.9, 77),
    ("iaff", "h100"): (56.7, 153),
    ("aff", "v5e:2x2"): (3.6,),
    ("iaff", "v5e:2x2"): (5.5,),
}


@pytest.fixture(scope="module")
def topology(request):
    name = request.param
    module = "libtpu" if name.startswith("v") else "jax_cuda12_plugin"
    if "REQUIRE_COMPILERS" not in os.environ and importlib.util.find_spec(module) is None:
        pytest.skip(f"needs {module}: pip install -e '.[plan]'")
    return describe_topology(name)


EVERY = pytest.mark.parametrize("topology", ["v5e:2x2", "h100"], indirect=True)
TPU = pytest.mark.parametrize("topology", ["v5e:2x2"], indirect=True)


def digits():
    return digits_config.get_config()


def cifar():
    config = cifar10_resnet32.get_config()
    config.model = "cifar_resnet8"  # one block a stage
    return config


@TPU
@pytest.mark.parametrize("parallel", ["pmap", "shard_map"])
@pytest.mark.parametrize("config", [digits, cifar, digit_scenes.get_config])
def test_the_training_step_compiles_for_a_slice(topology, config, parallel):
    config = config()
    config.parallel = parallel
    plan = estimate(config, topology, compile_step(config, topology))
    assert plan.fits
    assert (plan.chips, plan.hosts) == (4, 1)
    assert plan.compiler_seconds is not None
    assert plan.estimated_step_seconds < 0.1
    assert plan.collectives["all-reduce"] >= 1
    # The gradients of all parameters are averaged.
    assert plan.collective_bytes["all-reduce"] >= 4 * plan.parameters


@pytest.mark.parametrize("topology", ["v5e:4x4"], indirect=True)
@pytest.mark.parametrize("parallel", ["pmap", "shard_map"])
def test_the_training_step_compiles_for_several_hosts(topology, parallel):
    config = digits()
    config.parallel = parallel
    config.sync_batch_norm = False
    plan = estimate(config, topology, compile_step(config, topology))
    assert (plan.chips, plan.hosts) == (16, 4)
    # Without synchronized batch norm, no norm has all-reduces of its own.
    assert plan.collectives["all-reduce"] < 10


def compiled(module, topology, shape, dtype, *, train):
    """Return the counts of a module on one device: the forward and the backward pass."""
    maps = [jax.ShapeDtypeStruct(shape, dtype)] * 2
    small = jnp.zeros((2, 4, 4, shape[-1]))
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), small, small))

    def forward(params, x, y):
        return module.apply({**variables_of(params)}, x, y, train=True, mutable=["batch_stats"])

    def variables_of(params):
        return params

    def both(variables, x, y, gradient):
        out, backward = jax.vjp(lambda v, x, y: forward(v, x, y)[0], variables, x, y)
        return out, backward(gradient)

    sharding = SingleDeviceSharding(topology.devices[0])
    if train:
        lowered = jax.jit(both, in_shardings=sharding).lower(variables, *maps, maps[0])
    else:
        lowered = jax.jit(module.apply, in_shardings=sharding).lower(variables, *maps)
    text, _, _ = compile_traced(lowered, topology)
    return count_traffic(parse(text))


@EVERY
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("name", aff_jax.list_fusions())
def test_every_fusion_compiles(topology, name, dtype):
    module = aff_jax.create_fusion(name, dtype=dtype)
    traffic = compiled(module, topology, (8, 8, 8, 64), dtype, train=True)
    assert traffic.kernels > 0


@EVERY
@pytest.mark.parametrize("name", ["aff", "iaff"])
def test_the_counts_of_a_fusion_are_at_most_the_recorded_ones(topology, name):
    module = aff_jax.create_fusion(name, dtype=jnp.bfloat16)
    shape = 128, 32, 32, 64
    traffic = compiled(module, topology, shape, jnp.bfloat16, train=True)
    maps = traffic.bytes / (2 * 128 * 32 * 32 * 64)
    found = (traffic.cycles / 1e6,) if traffic.cycles else (maps, traffic.kernels)
    for count, recorded in zip(found, RECORDED[name, topology.name], strict=True):
        assert count <= 1.05 * recorded, (found, recorded)


@EVERY
def test_a_frozen_network_compiles(topology):
    model = aff_jax.create_model("cifar_resnet8", num_classes=10, dtype=jnp.bfloat16)
    images = jnp.zeros((8, 32, 32, 3))
    variables = model.init(jax.random.key(0), images)
    frozen = freeze(model, variables)
    sharding = SingleDeviceSharding(topology.devices[0])
    lowered = jax.jit(frozen, in_shardings=sharding).lower(
        jax.ShapeDtypeStruct(images.shape, images.dtype)
    )
    text, memory, _ = compile_traced(lowered, topology)
    assert text is not None
    assert memory > 0
