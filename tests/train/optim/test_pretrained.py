"""Initialization from a file of weights."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

import aff_jax
from train import loop
from train.checkpoints.manager import Checkpoints
from train.optim.pretrained import initialize_from
from train.setup import prepare


def test_all_values_are_those_of_the_file(weight_file):
    path, saved = weight_file
    initial = jax.tree.map(jnp.zeros_like, saved)
    variables, new_head = initialize_from(path, initial)
    assert new_head == []
    chex.assert_trees_all_equal(variables, saved)


def test_a_head_for_other_classes_keeps_its_values(weight_file):
    path, saved = weight_file
    initial = jax.tree.map(jnp.zeros_like, saved)
    initial["params"]["head"] = {"kernel": jnp.full((64, 3), 7.0), "bias": jnp.ones(3)}
    variables, new_head = initialize_from(path, initial)
    assert sorted(new_head) == ["params/head/bias", "params/head/kernel"]
    chex.assert_trees_all_equal(variables["params"]["head"], initial["params"]["head"])
    del variables["params"]["head"]
    rest = {**saved, "params": {k: v for k, v in saved["params"].items() if k != "head"}}
    chex.assert_trees_all_equal(variables, rest)


def test_weights_of_another_network_are_refused_with_a_list_of_the_differences(weight_file):
    path, saved = weight_file
    flat = traverse_util.flatten_dict(saved, sep="/")
    stem = flat.pop("params/stem/kernel")
    reshaped = next(name for name in flat if name.startswith("params/stage1_block0"))
    shape = flat[reshaped].shape
    flat |= {"params/more/bias": jnp.zeros(64), reshaped: jnp.zeros((3, 5))}
    with pytest.raises(ValueError) as error:
        initialize_from(path, traverse_util.unflatten_dict(flat, sep="/"))
    message = str(error.value)
    assert "missing     params/more/bias (64,)" in message
    assert f"unexpected  params/stem/kernel {stem.shape}" in message
    assert f"misshapen   {reshaped}: {shape}, expected (3, 5)" in message


def test_another_number_of_channels_is_refused_with_the_way_to_adapt(weight_file):
    path, saved = weight_file
    flat = traverse_util.flatten_dict(saved, sep="/")
    kernel = flat["params/stem/kernel"]
    flat["params/stem/kernel"] = jnp.zeros((*kernel.shape[:2], 3, kernel.shape[-1]))
    flat["batch_stats/input_norm/mean"] = flat["batch_stats/input_norm/var"] = jnp.zeros(3)
    initial = traverse_util.unflatten_dict(flat, sep="/")
    with pytest.raises(ValueError, match=r"network: 3 misshapen\.(.|\n)*adapt_channels.*, 3\)"):
        initialize_from(str(path), initial)
    model, variables = aff_jax.load(path)
    adapted = path.with_name("adapted.safetensors")
    aff_jax.save(adapted, aff_jax.convert.adapt_channels(variables, 3), model, overwrite=True)
    result, _ = initialize_from(str(adapted), initial)
    assert result["params"]["stem"]["kernel"].shape[-2] == 3


def test_a_missing_file_is_named(network):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        initialize_from("nowhere.safetensors", network[1])


def test_the_path_may_begin_in_the_home_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "weights.safetensors")):
        initialize_from("~/weights.safetensors", {})


def test_a_run_starts_from_a_file(config, weight_file):
    path, saved = weight_file
    config.init_from = str(path)
    chex.assert_trees_all_equal(prepare(config).state.variables, saved)


@pytest.mark.slow
def test_a_run_does_not_change_frozen_weights(config, console, weight_file, tmp_path):
    path, saved = weight_file
    config.init_from, config.freeze = str(path), ("stem", "stage1")
    config.epochs, config.warmup_epochs = 0.5, 0.0
    run = prepare(config)
    loop.train(config, tmp_path / "run", console)
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        state = checkpoints.restore(run.state).state
    chex.assert_trees_all_equal(state.params["stem"], saved["params"]["stem"])
    for name in ("params", "batch_stats"):
        found, initial = getattr(state, name), saved[name]
        chex.assert_trees_all_equal(found["stage1_block0"], initial["stage1_block0"])
    assert np.any(state.params["head"]["kernel"] != saved["params"]["head"]["kernel"])

    # The checkpoint has all weights, so the file is not read again.
    moved = path.rename(path.with_suffix(".moved"))
    try:
        loop.train(config, tmp_path / "run", console)
        assert "This run was complete" in console.export_text()
    finally:
        moved.rename(path)
