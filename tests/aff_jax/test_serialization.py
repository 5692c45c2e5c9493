"""`save` and `load`: variables and models survive a round trip, and damaged files are refused."""

import functools
import json
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

import aff_jax
from aff_jax.description import describe_model
from aff_jax.differences import DifferentArraysError
from aff_jax.fusion.baselines import Add
from aff_jax.fusion.registry import FUSIONS
from tests.aff_jax.hosts.families import small
from tests.aff_jax.random_variables import random_variables

X = np.float32(np.random.default_rng(0).standard_normal((2, 8, 8, 3)))

MODELS = {
    "a host": lambda: aff_jax.create_model("cifar_resnet8", "iaff", "mxnet", 5, width=2),
    "a reference that sets fields of the norm": lambda: aff_jax.create_model(
        "cifar_resnet8", "aff", "pytorch", 5, dtype=jnp.bfloat16
    ),
    "a residual host": lambda: aff_jax.hosts.resnet.ResNet(
        num_classes=5, block="basic", blocks_per_stage=(1,), base_channels=8, small_input=True
    ),
    "a host with a backbone": lambda: small("fpn_resnet20"),
    "a fusion": lambda: aff_jax.AFF(reduction=2, activation=nn.silu, scales=("global", "global")),
    "attention": lambda: aff_jax.MSCAM(norm=functools.partial(aff_jax.BatchNorm, epsilon=1e-3)),
}


@pytest.mark.parametrize("name", MODELS)
def test_load_returns_the_saved_variables_and_their_model(name, tmp_path):
    model = MODELS[name]()
    inputs = (X, X[::-1]) if isinstance(model, aff_jax.AFF) else (X,)
    variables = random_variables(model, *inputs, dtype=np.float32)
    aff_jax.save(tmp_path / "w.safetensors", variables, model)
    again, loaded = aff_jax.load(tmp_path / "w.safetensors")
    assert type(again) is type(model)
    chex.assert_trees_all_equal(loaded, variables)
    # The same program of the same variables has the same results.
    programs = [jax.jit(m.apply).lower(variables, *inputs).as_text() for m in (again, model)]
    assert programs[0] == programs[1]


def test_arrays_that_do_not_match_their_model_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    description = json.dumps(describe_model(aff_jax.create_model("cifar_resnet8")))
    save_file({"params/foo": X}, path, {"format": "aff_jax", "model": description})
    message = "the arrays do not match the model CIFARResNet"
    with pytest.raises(DifferentArraysError, match=message) as error:
        aff_jax.load(path)
    assert "  unexpected  params/foo" in "\n".join(error.value.differences)


def test_double_precision_is_not_lost_silently(tmp_path):
    path = tmp_path / "w.safetensors"
    variables = random_variables(aff_jax.AFF(), X, X, dtype=np.float64)
    aff_jax.save(path, variables, aff_jax.AFF())
    with pytest.raises(ValueError, match="in double precision, among them batch_stats/"):
        aff_jax.load(path)
    with jax.enable_x64(True):
        chex.assert_trees_all_equal_dtypes(aff_jax.load(path)[1], variables)


def test_an_existing_file_is_only_overwritten_on_request(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="overwrite"):
        aff_jax.save(path, {}, Add())
    assert path.read_bytes() == b"precious"
    aff_jax.save(path, {}, Add(), overwrite=True)
    assert aff_jax.load(path)[0] == Add()


def test_a_model_that_cannot_be_stored_is_refused_and_nothing_is_written(tmp_path):
    path = tmp_path / "w.safetensors"

    class Mine(nn.Module):
        pass

    with pytest.raises(ValueError, match="expected a module of aff_jax, got a Mine"):
        aff_jax.save(path, {}, Mine())
    with pytest.raises(ValueError, match=r"AFF.activation is .*which cannot be stored"):
        aff_jax.save(path, {}, aff_jax.AFF(activation=lambda z: z))
    with pytest.raises(ValueError, match=r"CIFARResNet.fusion is .*the registered name"):
        aff_jax.save(path, {}, aff_jax.create_model("cifar_resnet8", lambda **f: aff_jax.AFF(**f)))
    assert list(tmp_path.iterdir()) == []


class Mine(nn.Module):
    """A fusion with a class attribute that `np.dtype` would read."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, y, train=False):
        return x + y


def tiny_host(**fields):
    """Return a host of a stem and a head."""
    return aff_jax.create_model(
        "cifar_resnet8", num_classes=3, blocks_per_stage=(0, 0, 0), **fields
    )


def test_variables_alone_are_loaded_into_a_model_of_ones_own(tmp_path):
    path, model = tmp_path / "w.safetensors", tiny_host(fusion=Mine)
    variables = random_variables(model, X, dtype=np.float32)
    aff_jax.save(path, variables, None)
    again, loaded = aff_jax.load(path, model=model)
    assert again is model
    chex.assert_trees_all_equal(loaded, variables)
    with pytest.raises(ValueError, match=r"without the description.*load\(path, model=model\)"):
        aff_jax.load(path)
    with pytest.raises(ValueError, match=r"2 misshapen\.(.|\n)*The file belongs to another model"):
        aff_jax.load(path, model=model.clone(num_classes=4))


def test_a_registered_fusion_is_loaded_by_its_name(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    with monkeypatch.context() as patch:
        patch.setitem(FUSIONS, "mine", Mine)
        model = aff_jax.create_model("cifar_resnet8", "mine", blocks_per_stage=(1,))
        variables = random_variables(model, X, dtype=np.float32)
        aff_jax.save(path, variables, model)
        assert aff_jax.load(path)[0].fusion == "mine"
    with pytest.raises(ValueError, match=r"unknown fusion 'mine'.*must be registered first"):
        aff_jax.load(path)


def with_intermediates(variables):
    return {**variables, "intermediates": {"head": {"__call__": (X,)}}}


def with_a_device_axis(variables):
    return jax.tree.map(lambda leaf: np.stack([leaf, leaf]), variables)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_intermediates, "intermediates.* Leave these out"),
        (lambda v: v["params"], "Probably this is the collection params alone"),
        (lambda v: {"params": v["params"]}, "4 missing"),
        (with_a_device_axis, "(?s)misshapen.* axis for devices"),
        (lambda v: {**v, "params": {**v["params"], "a/b": X}}, "without slashes"),
        (lambda v: {**v, "params": {**v["params"], 3: X}}, "got 3 in"),
        (lambda v: jax.eval_shape(lambda: v), "expected an array of numbers"),
    ],
)
def test_what_load_would_refuse_is_not_written(change, message, tmp_path):
    path, model = tmp_path / "w.safetensors", tiny_host()
    variables = random_variables(model, X, dtype=np.float32)
    aff_jax.save(path, variables, model)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        aff_jax.save(path, change(variables), model, overwrite=True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("change", [with_intermediates, lambda v: v["params"]])
def test_variables_of_a_fusion_have_known_collections(change, tmp_path):
    variables = random_variables(aff_jax.AFF(), X, X)
    with pytest.raises(ValueError, match="expected the variables of a AFF"):
        aff_jax.save(tmp_path / "w.safetensors", change(variables), aff_jax.AFF())


@pytest.mark.parametrize("fusion", ["concat", "sk", "iaff", "mscam"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: {"params": v["params"]}, "missing"),
        (with_a_device_axis, r"(?s)misshapen.* axis for devices.*leaf\[0\]"),
    ],
)
def test_variables_of_a_fusion_have_known_shapes(fusion, change, message, tmp_path):
    path, x = tmp_path / "w.safetensors", jnp.zeros((2, 2, 12))
    model = aff_jax.MSCAM() if fusion == "mscam" else aff_jax.create_fusion(fusion)
    inputs = (x,) if fusion == "mscam" else (x, x)
    zeros = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(model.init, jax.random.key(0), *inputs),
    )
    aff_jax.save(path, zeros, model)
    assert aff_jax.load(path)[0] == model
    with pytest.raises(ValueError, match=message):
        aff_jax.save(path, change(zeros), model, overwrite=True)


def test_partitioned_variables_are_written_without_their_partitioning(tmp_path):
    path, model = tmp_path / "w.safetensors", tiny_host()
    variables = random_variables(model, X, dtype=np.float32)
    boxed = jax.tree.map(lambda leaf: nn.Partitioned(leaf, (None,) * leaf.ndim), variables)
    aff_jax.save(path, boxed, model)
    chex.assert_trees_all_equal(aff_jax.load(path)[1], variables)


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"conv1.weight": X}, path)
    with pytest.raises(ValueError, match=r"expected a file written by aff_jax.save.*from_torch"):
        aff_jax.load(path)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ("{", "the description of the model is damaged"),
        ("3", "the description of the model is damaged"),
        ('{"class": "AFF"}', "the description of the model is damaged"),
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


def test_a_description_of_another_version_is_refused_and_the_model_can_be_passed(tmp_path):
    model = small("cifar_resnet8", "add")
    variables = random_variables(model, X, dtype=np.float32)
    path = tmp_path / "w.safetensors"
    description = describe_model(model)
    description["fields"]["features"] = description["fields"].pop("features_only")
    arrays = {key: np.asarray(leaf) for key, leaf in flatten_dict(variables, sep="/").items()}
    save_file(arrays, path, {"format": "aff_jax", "model": json.dumps(description)})
    with pytest.raises(ValueError, match=r"another version of aff_jax: .*'features'.*model=model"):
        aff_jax.load(path)
    chex.assert_trees_all_equal(aff_jax.load(path, model=model).variables, variables)
    save_file(arrays, path, {"format": "aff_jax", "model": "{"})
    chex.assert_trees_all_equal(aff_jax.load(path, model=model).variables, variables)
