"""Initialization from a file of weights."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

import aff_jax
from aff_jax.differences import DifferentArraysError
from train import start
from train.checkpoints.manager import Checkpoints
from train.optim.pretrained import initialize_from, initialize_part_from
from train.setup import make_run


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
    with pytest.raises(DifferentArraysError) as error:
        initialize_from(path, traverse_util.unflatten_dict(flat, sep="/"))
    message = str(error.value)
    assert len(error.value.differences) == 3
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
    chex.assert_trees_all_equal(make_run(config).state.variables, saved)


@pytest.mark.slow
def test_a_run_does_not_change_frozen_weights(config, console, weight_file, tmp_path):
    path, saved = weight_file
    config.init_from, config.frozen_submodules = str(path), ("stem", "stage1")
    config.epochs, config.warmup_epochs = 0.5, 0.0
    run = make_run(config)
    start.train(config, tmp_path / "run", console)
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
        start.train(config, tmp_path / "run", console)
        assert "This run was complete" in console.export_text()
    finally:
        moved.rename(path)


def as_backbone(saved, **more):
    """Return variables of a network with zeros in place of the weights below `backbone`."""
    rest = {k: v for k, v in saved["params"].items() if k not in ("head", "final_norm")}
    zeros = jax.tree.map(jnp.zeros_like, {"params": rest, "batch_stats": saved["batch_stats"]})
    return {
        "params": {"backbone": zeros["params"], "up1": {"kernel": jnp.ones((2, 2))}, **more},
        "batch_stats": {"backbone": zeros["batch_stats"]},
    }


def test_a_backbone_is_loaded_and_the_report_says_what_was(weight_file):
    path, saved = weight_file
    initial = as_backbone(saved)
    variables, report = initialize_part_from(str(path), initial, "backbone")
    chex.assert_trees_all_equal(variables["batch_stats"]["backbone"], saved["batch_stats"])
    loaded = variables["params"]["backbone"]
    chex.assert_trees_all_equal(loaded, {name: saved["params"][name] for name in loaded})
    chex.assert_trees_all_equal(variables["params"]["up1"], initial["params"]["up1"])
    count = len(jax.tree.leaves(loaded)) + len(jax.tree.leaves(saved["batch_stats"]))
    assert report == [
        f"Loaded {count} arrays of {path} into backbone.",
        "Newly initialized (1 arrays): up1.",
        "Not used from the file (4 arrays): final_norm, head.",
    ]


def test_a_prefix_that_matches_nothing_is_refused_with_both_names(weight_file):
    path, saved = weight_file
    with pytest.raises(ValueError, match="init_prefix='encoder'") as error:
        initialize_part_from(str(path), as_backbone(saved), "encoder")
    assert "modules of the network: backbone, up1\n" in str(error.value)
    assert "modules of the file: final_norm, head, " in str(error.value)


def test_a_backbone_of_another_shape_is_refused(weight_file):
    path, saved = weight_file
    initial = as_backbone(saved)
    shape = initial["params"]["backbone"]["stem"]["kernel"].shape
    initial["params"]["backbone"]["stem"] = {"kernel": jnp.zeros((*shape[:3], 99))}
    with pytest.raises(DifferentArraysError, match=r"1 misshapen\.\n.* params/backbone/stem"):
        initialize_part_from(str(path), initial, "backbone")


@pytest.mark.parametrize("host", ["fpn_resnet20", "unet_resnet20"])
def test_the_backbone_of_a_pyramid_has_the_names_of_a_classifier(host, tmp_path):
    """All arrays of the backbone come from a file of the classifier, here of random weights."""

    def initial(name):
        model = aff_jax.create_model(name, "aff", num_classes=3)
        shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
        return model, jax.tree.map(lambda x: np.full(x.shape, 7, x.dtype), shapes)

    classifier, weights = initial("cifar_resnet20")
    aff_jax.save(tmp_path / "classifier.safetensors", weights, classifier)
    _, variables = initial(host)
    path = str(tmp_path / "classifier.safetensors")
    _, report = initialize_part_from(path, variables, "backbone")
    backbone = [variables[name]["backbone"] for name in ("params", "batch_stats")]
    assert report[0].startswith(f"Loaded {len(jax.tree.leaves(backbone))} arrays")
    assert "backbone" not in report[1]


def test_a_prefix_without_a_file_is_refused(config):
    config.init_prefix = "backbone"
    with pytest.raises(ValueError, match="expected a file in init_from"):
        make_run(config)
