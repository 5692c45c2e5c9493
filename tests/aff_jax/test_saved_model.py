"""The image task and the origin of the weights in a model file."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import aff_jax
from aff_jax.images import ImageTask
from aff_jax.saved_model import SavedModel

TASK = ImageTask(
    task="classification",
    class_names=("cat", "dog"),
    image_size=(8, 12),
    channels=3,
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.2, 0.1),
    resize="pad",
)
ORIGIN = {"step": 7, "config": {"model": "cifar_resnet8"}, "versions": {"jax": jax.__version__}}


@pytest.fixture(scope="module")
def network():
    model = aff_jax.create_model("cifar_resnet8", num_classes=2, blocks_per_stage=(0, 0, 0))
    return model, jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def test_file_has_the_image_task_and_the_origin(network, tmp_path):
    model, variables = network
    path = tmp_path / "w.safetensors"
    aff_jax.save(path, variables, model, image_task=TASK, origin=ORIGIN)
    saved = aff_jax.load(path)
    assert isinstance(saved, SavedModel)
    assert (saved.image_task, saved.origin) == (TASK, ORIGIN)
    again, loaded = saved
    assert (again, loaded) == (saved.model, saved.variables)
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    x = saved.image_task.preprocess(pixels)
    assert model.apply(loaded, x[None]).shape == (1, 2)


def test_file_without_them_is_loaded(network, tmp_path):
    model, variables = network
    aff_jax.save(tmp_path / "w.safetensors", variables, model)
    saved = aff_jax.load(tmp_path / "w.safetensors")
    assert saved.image_task is None
    assert saved.origin == {}


@pytest.mark.parametrize("damage", ["{", "[1]", '{"task": "classification"}'])
def test_a_damaged_image_task_is_refused(network, tmp_path, damage):
    model, variables = network
    path = tmp_path / "w.safetensors"
    aff_jax.save(path, variables, model, image_task=TASK)
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        metadata = json.loads(file.read(size))["__metadata__"]
    save_file(load_file(path), path, {**metadata, "image_task": damage})
    with pytest.raises(ValueError, match="description of the images is damaged"):
        aff_jax.load(path)
