"""The modules compiled for TPU and GPU, by the compilers of the extra `plan`."""

import json

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding

import aff_jax
from aff_jax.inference import freeze
from benchmarks import compiled
from tests.train.plan.compilers import require_topology
from train.plan.program import compile_traced

pytestmark = [pytest.mark.slow, pytest.mark.optimized]

EVERY = pytest.mark.parametrize("name", ["v5e:2x2", "h100"])

# Forward and backward pass at 128x32x32x64 in bfloat16: maps and kernels of the GPU, Mcycles of the
# TPU, with jax 0.10.2 and libtpu 0.0.42.1.
RECORDED = {
    ("aff", "h100"): {"h100 maps": 25.9, "h100 kernels": 67},
    ("iaff", "h100"): {"h100 maps": 48.7, "h100 kernels": 133},
    ("aff", "v5e:2x2"): {"v5e Mcycles": 0.73},
    ("iaff", "v5e:2x2"): {"v5e Mcycles": 1.26},
}


@EVERY
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("fusion", aff_jax.list_fusions())
def test_every_fusion_compiles_forward_and_backward(name, dtype, fusion):
    topology = require_topology(name)
    traffic = compiled.count_module(fusion, 4, (8, 8, 8, 64), topology, dtype=dtype)
    assert traffic.executed > 0


@pytest.mark.parametrize(("fusion", "name"), RECORDED)
def test_the_counts_of_a_fusion_grew_by_at_most_5_percent(fusion, name):
    topology = require_topology(name)
    shape, reduction = compiled.SHAPES[0]
    row = compiled.module_row(fusion, reduction, shape, [topology], "forward and backward")
    for count, recorded in RECORDED[fusion, name].items():
        assert row[count] <= 1.05 * recorded, row


@EVERY
def test_a_frozen_network_compiles(name):
    topology = require_topology(name)
    model = aff_jax.create_model("cifar_resnet8", num_classes=10, dtype=jnp.bfloat16)
    image = jax.ShapeDtypeStruct((8, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    # Zeros, since compiling the initializers takes longer than the rest of the test.
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables)
    frozen = freeze(model, zeros, image)
    variables = jax.eval_shape(lambda: frozen.variables)
    sharding = SingleDeviceSharding(topology.devices[0])
    lowered = jax.jit(frozen.apply, in_shardings=sharding).lower(variables, image)
    text, memory, _ = compile_traced(lowered, topology)
    assert text is not None
    assert memory > 0


def test_the_command_writes_its_tables(tmp_path):
    require_topology("v5e:2x2")
    compiled.main(["--quick", "--topologies", "v5e:2x2", f"--output={tmp_path}"])
    tables = json.loads((tmp_path / "compiled.json").read_text())["tables"]
    assert tables.keys() == compiled.PASSES.keys()
    assert all(row["v5e Mcycles"] > 0 for rows in tables.values() for row in rows)
