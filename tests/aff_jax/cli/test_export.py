"""`aff-jax export`: StableHLO files of saved networks, and errors."""

import json

import jax
import numpy as np
import pytest

import aff_jax
from aff_jax.cli import main as cli
from aff_jax.images import ImageTask
from tests.aff_jax.random_variables import random_variables

X = np.float32(np.random.default_rng(0).standard_normal((3, 16, 12, 1)))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = aff_jax.create_model("cifar_resnet8", "add", num_classes=5)
    variables = random_variables(model, X, dtype=np.float32)
    path = tmp_path_factory.mktemp("saved") / "weights.safetensors"
    aff_jax.save(path, variables, model)
    return path, np.asarray(jax.jit(model.apply)(variables, X))


def test_exports_a_saved_network(saved, tmp_path, capsys):
    source, expected = saved
    target = tmp_path / "model.stablehlo"
    # Grayscale images: the number of channels comes from the weights.
    command = ["export", str(source), str(target), "--input-size=16x12", "--platform=cpu"]
    assert cli.main(command) == 0
    printed = capsys.readouterr().out
    assert "MB for cpu\n" in printed
    assert "float32[batch,16,12,1] -> float32[batch,5]" in printed.replace("f32", "float32")
    program = jax.export.deserialize(target.read_bytes())
    for n in (1, 3):
        largest = np.abs(expected).max()
        np.testing.assert_allclose(program.call(X[:n]), expected[:n], atol=1e-5 * largest)

    assert cli.main(command) == 2
    assert "already exists" in capsys.readouterr().err
    assert cli.main([*command, "--overwrite", "--batch-size=3"]) == 0
    program = jax.export.deserialize(target.read_bytes())
    assert program.in_avals[0].shape == (3, 16, 12, 1)


def test_writes_which_images_the_network_reads(saved, tmp_path, capsys):
    source, _ = saved
    model, variables = aff_jax.load(source)
    task = ImageTask("classification", tuple("abcde"), (16, 12), 1, (0.5,), (0.25,))
    network, target = tmp_path / "net.safetensors", tmp_path / "model.stablehlo"
    aff_jax.save(network, variables, model, image_task=task)
    command = ["export", str(network), str(target), "--platform=cpu"]
    assert cli.main([*command, "--input-size=16x16"]) == 2
    assert "trained with, --input-size=16x12, got 16x16" in capsys.readouterr().err
    assert cli.main(command) == 0
    assert jax.export.deserialize(target.read_bytes()).in_avals[0].shape[1:] == (16, 12, 1)
    assert ImageTask.from_json(json.loads((tmp_path / "model.json").read_text())) == task
    target.unlink()
    assert cli.main(command) == 2
    assert "model.json already exists" in capsys.readouterr().err
    # A file without an image task needs the size.
    assert cli.main(["export", str(source), str(tmp_path / "other.stablehlo")]) == 2
    assert "expected --input-size" in capsys.readouterr().err


def test_rejects_unknown_sizes_batches_and_platforms(saved, tmp_path, capsys):
    source, _ = saved
    command = ["export", str(source), str(tmp_path / "model.stablehlo"), "--input-size=16x12"]
    for flag, message in (
        (
            "--input-size=224x",
            "expected 224 or 240x320 (height x width), got '224x'",
        ),
        ("--batch-size=0", "expected a number of at least 1 or symbolic, got '0'"),
        ("--platform=gpu", "invalid choice: 'gpu'"),
    ):
        with pytest.raises(SystemExit, match="2"):
            cli.main([*command, flag])
        assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_rejects_other_sources_and_targets(saved, tmp_path, capsys):
    source, _ = saved
    for command, message in (
        ([str(source), str(tmp_path / "model.onnx")], "expected the extension .stablehlo"),
        ([str(source), str(tmp_path / "no" / "model.stablehlo")], "no directory"),
        ([str(tmp_path / "no"), str(tmp_path / "model.stablehlo")], "No such file"),
    ):
        assert cli.main(["export", *command, "--input-size=16x12"]) == 2
        assert message in capsys.readouterr().err
    fusion = tmp_path / "fusion.safetensors"
    aff_jax.save(fusion, random_variables(aff_jax.AFF(), X, X, dtype=np.float32), aff_jax.AFF())
    target = tmp_path / "model.stablehlo"
    assert cli.main(["export", str(fusion), str(target), "--input-size=16x12"]) == 2
    assert "expected a network of create_model, which takes images; got AFF" in (
        capsys.readouterr().err
    )
