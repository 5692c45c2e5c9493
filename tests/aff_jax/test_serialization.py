"""Weights at rest: what is saved comes back, with its model, or is refused."""

import functools
import json

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import aff_jax
from aff_jax.serialization import build_model, describe_model
from tests.aff_jax.random_variables import random_variables

X = np.float32(np.random.default_rng(0).standard_normal((2, 8, 8, 3)))

MODELS = {
    "a host": lambda: aff_jax.create_model("cifar_resnet8", "iaff", "mxnet", 5, width=2),
    "a reference with a norm of its own": lambda: aff_jax.create_model(
        "cifar_resnet8", "aff", "pytorch", 5, dtype=jnp.bfloat16
    ),
    "a residual host": lambda: aff_jax.hosts.resnet.ResNet(
        num_classes=5, block="basic", blocks_per_stage=(1,), base_channels=8, small_input=True
    ),
    "a host with a backbone": lambda: aff_jax.create_model("fpn_resnet20", blocks_per_stage=1),
    "a fusion": lambda: aff_jax.AFF(reduction=2, activation=nn.silu, scales=("global", "global")),
    "attention": lambda: aff_jax.MSCAM(norm=functools.partial(aff_jax.BatchNorm, epsilon=1e-3)),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_saved_comes_back_with_its_model(name, tmp_path):
    model = MODELS[name]()
    inputs = (X, X[::-1]) if isinstance(model, aff_jax.AFF) else (X,)
    variables = random_variables(model, *inputs, dtype=np.float32)
    aff_jax.save(tmp_path / "w.safetensors", variables, model)
    again, loaded = aff_jax.load(tmp_path / "w.safetensors")
    assert type(again) is type(model)
    chex.assert_trees_all_equal(loaded, variables)
    np.testing.assert_array_equal(again.apply(loaded, *inputs), model.apply(variables, *inputs))


@pytest.mark.parametrize("reference", ["paper", "pytorch", "mxnet"])
@pytest.mark.parametrize("name", aff_jax.list_models())
def test_every_registered_name_can_be_described(name, reference):
    model = aff_jax.create_model(name, "iaff", reference)
    again = build_model(json.loads(json.dumps(describe_model(model))))
    assert type(again) is type(model)
    assert describe_model(again) == describe_model(model)
    assert again.fusion_fields == model.fusion_fields
    hash(again)


def test_numbers_of_numpy_come_back_as_numbers():
    again = build_model(describe_model(aff_jax.AFF(gain=np.float32(2), reduction=np.int64(2))))
    assert again == aff_jax.AFF(gain=2.0, reduction=2)


def test_arrays_that_do_not_fit_their_model_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    aff_jax.save(path, {"params": {"foo": X}}, aff_jax.create_model("cifar_resnet8"))
    with pytest.raises(ValueError, match="its arrays do not fit its model, CIFARResNet"):
        aff_jax.load(path)


def test_double_precision_is_not_cut_without_a_word(tmp_path):
    path = tmp_path / "w.safetensors"
    aff_jax.save(path, {"params": {"w": np.float64(X)}}, aff_jax.AFF())
    with pytest.raises(ValueError, match="double precision, as params/w"):
        aff_jax.load(path)
    with jax.enable_x64(True):
        assert aff_jax.load(path)[1]["params"]["w"].dtype == np.float64


def test_a_backbone_stays_a_backbone():
    for name in ("cifar_resnet8", "inception8", "unet_resnet20", "resnet18"):
        model = aff_jax.create_model(name, features=True)
        assert build_model(describe_model(model)).features is True


def test_an_existing_file_is_not_overwritten_unless_told_to(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="overwrite"):
        aff_jax.save(path, {}, aff_jax.AFF())
    assert path.read_bytes() == b"precious"
    aff_jax.save(path, {}, aff_jax.AFF(), overwrite=True)
    assert aff_jax.load(path)[0] == aff_jax.AFF()


def test_what_has_no_name_is_refused_and_nothing_is_written(tmp_path):
    path = tmp_path / "w.safetensors"

    class Mine(nn.Module):
        pass

    with pytest.raises(ValueError, match="expected a module of aff_jax, got a Mine"):
        aff_jax.save(path, {}, Mine())
    with pytest.raises(ValueError, match=r"AFF.activation is .*which has no name"):
        aff_jax.save(path, {}, aff_jax.AFF(activation=lambda z: z))
    with pytest.raises(ValueError, match=r"CIFARResNet.fusion is .*a registered name"):
        aff_jax.save(path, {}, aff_jax.create_model("cifar_resnet8", lambda **f: aff_jax.AFF(**f)))
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"conv1.weight": X}, path)
    with pytest.raises(ValueError, match=r"expected a file written by aff_jax.save.*from_torch"):
        aff_jax.load(path)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("{", "its description of the model is damaged"),
        ('{"class": "AFF"}', "its description of the model is damaged"),
        ('{"class": "AFFF", "fields": {}}', "unknown class 'AFFF'. Did you mean 'AFF'"),
        ('{"class": "AFF", "fields": {"gian": 2}}', "unknown field of saved AFF: 'gian'"),
        ('{"class": "AFF", "fields": {"gain": {"what": 2}}}', "description of the model is dam"),
    ],
)
def test_a_damaged_description_is_refused(tmp_path, description, message):
    path = tmp_path / "w.safetensors"
    save_file({}, path, {"format": "aff_jax", "model": description})
    with pytest.raises(ValueError, match=message):
        aff_jax.load(path)
