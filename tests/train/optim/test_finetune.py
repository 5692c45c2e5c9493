"""Weights that training starts from, and those that it leaves alone."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import aff_jax
from train import loop
from train.optim.finetune import FrozenPart, initialize_from
from train.setup import prepare


@pytest.fixture(scope="module")
def network():
    model = aff_jax.create_model("cifar_resnet8", "add", num_classes=10)
    init = jax.jit(lambda key: model.init(key, jnp.zeros((2, 8, 8, 1))))
    return model, init(jax.random.key(0))


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    model, variables = network
    path = tmp_path_factory.mktemp("weights") / "add.safetensors"
    # Running statistics that nothing starts with.
    moved = {**variables, "batch_stats": jax.tree.map(lambda x: x + 3, variables["batch_stats"])}
    aff_jax.save(path, moved, model)
    return path, moved


def test_everything_comes_from_the_file(file):
    path, saved = file
    fresh = jax.tree.map(jnp.zeros_like, saved)
    variables, new_head = initialize_from(path, fresh)
    assert new_head == []
    chex.assert_trees_all_equal(variables, saved)


def test_a_head_for_other_classes_is_new(file):
    path, saved = file
    fresh = jax.tree.map(jnp.zeros_like, saved)
    fresh["params"]["head"] = {"kernel": jnp.full((64, 3), 7.0), "bias": jnp.ones(3)}
    variables, new_head = initialize_from(path, fresh)
    assert sorted(new_head) == ["params/head/bias", "params/head/kernel"]
    chex.assert_trees_all_equal(variables["params"]["head"], fresh["params"]["head"])
    del variables["params"]["head"]
    rest = {**saved, "params": {k: v for k, v in saved["params"].items() if k != "head"}}
    chex.assert_trees_all_equal(variables, rest)


def test_weights_of_another_network_are_refused_and_all_told(file):
    path, saved = file
    fresh = {**saved, "params": dict(saved["params"])}
    fresh["params"]["stem"] = {"kernel": jnp.zeros((3, 3, 3, 16))}
    fresh["params"]["more"] = fresh["params"].pop("final_norm")
    with pytest.raises(ValueError) as error:
        initialize_from(path, fresh)
    message = str(error.value)
    assert "missing     params/more/bias (64,)" in message
    assert "unexpected  params/final_norm/scale (64,)" in message
    assert "misshapen   params/stem/kernel: (3, 3, 1, 16), expected (3, 3, 3, 16)" in message


def test_a_file_that_is_not_there_is_told(network):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        initialize_from("nowhere.safetensors", network[1])


def test_what_is_frozen_has_no_gradient_no_update_and_fixed_statistics(network):
    model, variables = network
    part = FrozenPart(model, ("stem", "stage1"))
    images = jnp.float32(np.random.default_rng(0).standard_normal((4, 8, 8, 1)))

    @jax.jit
    def step(variables):
        def loss(params):
            logits, new = part.apply(
                {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
            )
            return jnp.sum(logits**2), new

        gradients, new = jax.grad(loss, has_aux=True)(variables["params"])
        optimizer = part.keep(optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1)))
        params = variables["params"]
        updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        return gradients, updates, new["batch_stats"]

    gradients, updates, statistics = step(variables)
    for tree, still in ((gradients, 0), (updates, 0)):
        for name, branch in tree.items():
            moves = [bool(jnp.any(leaf != still)) for leaf in jax.tree.leaves(branch)]
            assert any(moves) != (name in ("stem", "stage1_block0")), name
    before = variables["batch_stats"]
    chex.assert_trees_all_equal(statistics["stage1_block0"], before["stage1_block0"])
    for name in ("stage2_block0", "final_norm"):
        assert not np.allclose(
            jax.tree.leaves(statistics[name])[0], jax.tree.leaves(before[name])[0]
        )


def test_frozen_norms_normalise_by_running_statistics(network):
    """Frozen but for the head, a training step sees what an evaluation sees."""
    model, variables = network
    part = FrozenPart(model, ("input_norm", "stem", "stage", "final_norm"))
    part.check(variables)
    images = jnp.float32(np.random.default_rng(0).standard_normal((4, 8, 8, 1)))
    logits, _ = part.apply(variables, images, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(logits, model.apply(variables, images), rtol=1e-6)


@pytest.mark.parametrize(
    ("prefixes", "message"),
    [
        (("stagee1",), "unknown submodule to freeze 'stagee1'. Did you mean 'stage1_block0'"),
        (("st", "final_norm", "head"), "expected a network with something left to train"),
    ],
)
def test_what_cant_be_meant_is_refused(network, prefixes, message):
    model, variables = network
    with pytest.raises(ValueError) as error:
        FrozenPart(model, prefixes).check(variables)
    assert message in str(error.value)


def test_a_run_starts_from_a_file_and_leaves_the_frozen_part_alone(config, console, file, tmp_path):
    path, saved = file
    config.init_from, config.freeze = str(path), ("stem", "stage1")
    config.epochs, config.warmup_epochs = 0.5, 0.0
    run = prepare(config)
    chex.assert_trees_all_equal(run.state.variables, saved)
    loop.train(config, tmp_path / "run", console)
    from train.checkpoints.manager import Checkpoints

    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        state = checkpoints.restore(run.state).state
    chex.assert_trees_all_equal(state.params["stem"], saved["params"]["stem"])
    assert np.any(state.params["head"]["kernel"] != saved["params"]["head"]["kernel"])

    # The checkpoint holds all of it: the file may be gone by now.
    moved = path.rename(path.with_suffix(".moved"))
    try:
        loop.train(config, tmp_path / "run", console)
        assert "This run was complete" in console.export_text()
    finally:
        moved.rename(path)
