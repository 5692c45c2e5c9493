"""A small network and its variables, shared by the tests of pretrained weights and freezing."""

import jax
import jax.numpy as jnp
import pytest

import aff_jax


@pytest.fixture(scope="session")
def network():
    """Return a network for images of 8x8 pixels, and its initial variables."""
    model = aff_jax.create_model("cifar_resnet8", "add", num_classes=10)
    # It runs once, so its many random generators are not worth optimizing.
    options = {"xla_backend_optimization_level": 0}
    init = jax.jit(lambda key: model.init(key, jnp.zeros((2, 8, 8, 1))), compiler_options=options)
    return model, init(jax.random.key(0))


@pytest.fixture(scope="session")
def weight_file(network, tmp_path_factory):
    """Return a file of weights, and the variables in it."""
    model, variables = network
    path = tmp_path_factory.mktemp("weights") / "add.safetensors"
    # Running statistics that differ from the initial ones.
    shifted = jax.tree.map(lambda x: x + 3, variables["batch_stats"])
    saved = {**variables, "batch_stats": shifted}
    aff_jax.save(path, saved, model)
    return path, saved
