"""The examples of CONTRIBUTING work when they are added where the document says."""

import builtins
import functools
import importlib.resources
import io
import json
import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from aff_jax import create_fusion, create_model
from aff_jax.fusion import baselines
from aff_jax.fusion.registry import FUSIONS
from aff_jax.hosts.registry import MODELS
from tests.docs.documents import DOCUMENTS, ROOT, blocks
from tests.train.optim import test_optimizers
from train.data.sources.datasets import DATASETS, Dataset
from train.data.sources.load import load_source
from train.optim import optimizers

EXAMPLES = [code for language, code in blocks(DOCUMENTS["CONTRIBUTING.md"]) if language == "text"]
FUSION, FUSION_ROW, HOST, HOST_ROW, DATASET_ROW, *REST = EXAMPLES
OPTIMIZER, OPTIMIZER_ROW, ORACLE, METRIC = REST


def add(monkeypatch, table, code, row, home=None):
    """Run the code, as if it were in the module `home`, and add a row to `table`."""
    namespace = {**vars(home or builtins), "partial": functools.partial}
    exec(code, namespace)
    for name, constructor in eval(f"{{{row}}}", namespace).items():
        monkeypatch.setitem(table, name, constructor)


@pytest.fixture
def fusion(monkeypatch):
    add(monkeypatch, FUSIONS, FUSION, FUSION_ROW, home=baselines)


@pytest.fixture
def host(monkeypatch):
    add(monkeypatch, MODELS, HOST, HOST_ROW)


@pytest.fixture
def dataset(monkeypatch):
    (row,) = eval(f"({DATASET_ROW})", {"Dataset": Dataset})
    monkeypatch.setitem(DATASETS, row.name, row)
    return row


@pytest.mark.usefixtures("fusion")
def test_fusion_computes_its_formula():
    x, y = np.random.default_rng(0).standard_normal((2, 4, 3, 6), np.float32)
    np.testing.assert_array_equal(create_fusion("maximum").apply({}, x, y), np.maximum(x, y))


@pytest.mark.usefixtures("fusion", "host")
def test_host_takes_the_fusion():
    model = create_model("wide_stem_resnet8", "maximum", num_classes=7)
    images = jnp.ones((2, 8, 8, 1))
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    assert logits.shape == (2, 7)
    assert variables["params"]["stem"]["kernel"].shape == (5, 5, 1, 16)


def test_dataset_is_declared_as_in_tfds(dataset, tmp_path):
    features = tfds.builder(dataset.name, data_dir=tmp_path).info.features
    assert len(dataset.mean) == len(dataset.std) == features["image"].shape[-1]
    assert isinstance(features[dataset.label_keys[0]], tfds.features.ClassLabel)


def test_dataset_is_read(dataset, tmp_path, monkeypatch):
    """Prepare three images under the name of the dataset, without its download."""
    # TFDS 4.9.10 imports this backport without requiring it.
    monkeypatch.setitem(sys.modules, "importlib_resources", importlib.resources)
    builder = tfds.builder(dataset.name, data_dir=tmp_path)
    shape = builder.info.features["image"].shape
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), np.uint8)

    def examples():
        for index, image in enumerate(images):
            png = io.BytesIO()
            Image.fromarray(image[..., 0]).save(png, format="PNG")
            png.seek(0)
            yield index, {"image": png, "label": index}

    splits = {dataset.train_split: examples(), dataset.eval_split: examples()}
    monkeypatch.setattr(type(builder), "_split_generators", lambda *_: splits)
    builder.download_and_prepare(file_format="array_record")

    source = load_source(dataset.name, dataset.train_split, data_dir=tmp_path)
    read = sorted((source[i] for i in range(3)), key=lambda example: example["label"])
    np.testing.assert_array_equal([example["image"] for example in read], images)
    assert (source.mean, source.std) == (dataset.mean, dataset.std)


@pytest.mark.parametrize("mask", sorted(optimizers.WEIGHT_DECAY_MASKS))
def test_optimizer_computes_its_equation(monkeypatch, mask):
    add(monkeypatch, optimizers.OPTIMIZERS, OPTIMIZER, OPTIMIZER_ROW, home=optimizers)
    add(monkeypatch, test_optimizers.ORACLES, ORACLE, OPTIMIZER_ROW, home=test_optimizers)
    test_optimizers.test_three_steps("lion", mask)


@pytest.mark.slow
def test_metric_of_the_training_step_is_logged(tmp_path):
    """Edit a copy of the application, and train for two steps."""
    shutil.copytree(ROOT / "train", tmp_path / "train")
    for name in ("aff_jax", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    file = tmp_path / "train" / "steps" / "train_step.py"
    anchor = '"gradient_norm": gradient_norm,\n'
    source = file.read_text()
    assert source.count(anchor) == 1
    file.write_text(source.replace(anchor, f"{anchor}            {METRIC}"))
    flags = {"fusion": "add", "epochs": "0.1", "warmup_epochs": "0", "log_every_steps": "1"}
    subprocess.run(
        [sys.executable, "-m", "train", "--config=configs/digits.py", "--workdir=run"]
        + [f"--config.{name}={value}" for name, value in flags.items()],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), "PYTHONPATH": "", "XLA_FLAGS": ""},
        check=True,
    )
    lines = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    norms = [line["parameter_norm"] for line in lines if line["kind"] == "train"]
    assert len(norms) == 2
    assert all(norm > 0 for norm in norms)
