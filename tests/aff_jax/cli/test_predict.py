"""`aff-jax predict`: what it writes, prints and refuses."""

import jax
import numpy as np
import pytest
from PIL import Image

import aff_jax
from aff_jax.cli.main import main
from aff_jax.images import ImageTask


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """The file of a classifier with random weights."""
    path = tmp_path_factory.mktemp("network") / "net.safetensors"
    model = aff_jax.create_model("cifar_resnet8", num_classes=2)
    task = ImageTask("classification", ("cat", "dog"), (8, 8), 1, (0.5,), (0.25,))
    image = np.zeros((1, 8, 8, 1), np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), image)
    aff_jax.save(path, variables, model, image_task=task)
    return path


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (9, 12), "red").save(folder / name)
    return folder


def test_predicts_a_folder(network, photos, tmp_path, capsys):
    arguments = ["predict", str(network), str(photos), f"--output={tmp_path / 'out'}"]
    assert main(arguments) == 0
    output = capsys.readouterr()
    assert output.out == f"wrote the predictions of 2 of 2 images to {tmp_path / 'out'}\n"
    assert output.err == "2 of 2 images\n"
    text = (tmp_path / "out" / "predictions.csv").read_text()
    predictor = aff_jax.Predictor.load(network)
    assert f"a.png,{predictor(photos / 'a.png').class_name}," in text
    # The second time needs a flag.
    assert main(arguments) == 2
    assert "already has predictions" in capsys.readouterr().err
    assert main([*arguments, "--overwrite", "--batch-size=1"]) == 0


def test_names_unreadable_images_and_exits_with_1(network, photos, tmp_path, capsys):
    (photos / "a.png").write_bytes(b"no image")
    assert main(["predict", str(network), str(photos), f"--output={tmp_path / 'out'}"]) == 1
    output = capsys.readouterr()
    assert f"skipped: cannot read {photos / 'a.png'}: it is not an image" in output.err
    assert "1 of 2 images to" in output.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.safetensors", "{photos}"], "nowhere.safetensors"),
        (["{network}", "nowhere"], "expected an image or a folder of images, found no nowhere"),
    ],
)
def test_missing_files(network, photos, tmp_path, capsys, arguments, message):
    filled = [text.format(network=network, photos=photos) for text in arguments]
    assert main(["predict", *filled, f"--output={tmp_path / 'out'}"]) == 2
    assert message in capsys.readouterr().err


def test_a_batch_is_a_positive_number(network, photos, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["predict", str(network), str(photos), f"--output={tmp_path}", "--batch-size=0"])
    assert "expected a number of at least 1, got '0'" in capsys.readouterr().err


def test_pillow_is_named_where_it_is_missing(network, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    assert main(["predict", str(network), str(photos), f"--output={tmp_path / 'out'}"]) == 2
    assert "pip install 'aff_jax[images]'" in capsys.readouterr().err
