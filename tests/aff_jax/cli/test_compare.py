"""`aff-jax compare`: networks of the library and of the user, reports, and inputs from a file."""

import json
import sys
from unittest.mock import Mock

import numpy as np
import pytest

from aff_jax.cli import main as cli
from tests.aff_jax.cli.pytorch_network import MAKER, RESNET

LAYERS = """
from __future__ import annotations

WIDTH = 4
"""

THEIRS = """
import layers
import torch

class Mixer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.proj = torch.nn.Linear(3, layers.WIDTH)

    def forward(self, images, scale=1.0):
        return self.proj(images) * scale
"""

OURS = """
from __future__ import annotations

import flax.linen as nn
import jax
import layers
import numpy as np

class Mixer(nn.Module):
    features: int = layers.WIDTH

    @nn.compact
    def __call__(self, x, scale=1.0):
        return nn.Dense(self.features, name="mix")(x) * scale

class Renamed(nn.Module):
    @nn.compact
    def __call__(self, images, scale):
        return nn.Dense(layers.WIDTH, name="mix")(images) * scale

def pair():
    model = Mixer()
    return model, model.init(jax.random.key(0), np.ones((1, 3), np.float32))

def number():
    return 3

def half():
    return Mixer(), {"mix": {}}
"""

RNG = np.random.default_rng(0)
X, SCALE = RNG.standard_normal((2, 5, 3)).astype(np.float32), np.float32(RNG.random((2, 5, 1)))


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name, text in (("layers", LAYERS), ("theirs", THEIRS), ("ours", OURS)):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("layers", "_file_theirs", "_file_ours"):
        sys.modules.pop(name, None)


def compare(ours, *flags):
    command = ["compare", "theirs.py:Mixer", f"--ours=ours.py:{ours}", "--rename=proj=mix", *flags]
    return cli.main(command)


def test_compares_two_networks_of_the_user(files, capsys):
    np.savez("x.npz", X, SCALE)
    assert compare("Mixer", "--inputs=x.npz", "--json=out.json", "--html=out.html") == 0
    assert "Equal: 2 activations" in capsys.readouterr().out
    content = json.loads((files / "out.json").read_text())
    command = "aff-jax compare theirs.py:Mixer --ours=ours.py:Mixer --rename=proj=mix"
    assert content["about"]["command"].startswith(command)
    assert "seed" not in content["about"]
    assert content["about"]["JAX inputs"] == "float32 2x5x3, float32 2x5x1"
    assert f"<dd>{command}" in (files / "out.html").read_text()

    # The variables that the function returns are others than PyTorch's.
    assert compare("pair", "--inputs=x.npz", "--layout=same", "--float64") == 1
    assert "First mismatch: mix" in capsys.readouterr().out


def test_ignored_buffers_need_no_counterpart(files, capsys):
    np.savez("x.npz", X, SCALE)
    buffer = "        self.register_buffer('mask', torch.ones(2))\n\n    def forward"
    (files / "theirs.py").write_text(THEIRS.replace("\n    def forward", buffer, 1))
    assert compare("Mixer", "--inputs=x.npz") == 2
    assert "--ignore=mask" in capsys.readouterr().err
    assert compare("Mixer", "--inputs=x.npz", "--ignore=mask") == 0


def test_other_names_are_an_error_that_has_the_flag(files, capsys):
    np.savez("x.npz", X)
    command = ["compare", "theirs.py:Mixer", "--ours=ours.py:Mixer", "--inputs=x.npz"]
    assert cli.main(command) == 2
    assert "on the command line, --rename=proj=mix." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ours", "names"), [("Mixer", ("scale", "x")), ("Renamed", ("images", "scale"))]
)
def test_arrays_are_passed_by_the_names_of_arguments(files, ours, names):
    arrays = {"x": X, "images": X, "scale": SCALE}
    np.savez("x.npz", **{name: arrays[name] for name in names})
    assert compare(ours, "--inputs=x.npz") == 0


def test_the_result_of_a_closed_output_is_kept(files, monkeypatch):
    """As with `aff-jax compare ... | head`: different networks do not become equal."""
    np.savez("x.npz", X)
    monkeypatch.setattr("aff_jax.parity.Parity.to_text", lambda outcome: close())
    monkeypatch.setattr("os.dup2", lambda nowhere, stdout: None)
    monkeypatch.setattr(sys.stdout, "fileno", lambda: 1, raising=False)

    def close():
        raise BrokenPipeError

    assert compare("pair", "--inputs=x.npz") == 1


@pytest.mark.parametrize(
    ("ours", "flags", "message"),
    [
        ("Mixer", [], "expected --inputs FILE.npz, because only the inputs of --model are known"),
        ("Mixer", ["--inputs=no.npz"], "no.npz: no such file"),
        ("Mixer", ["--inputs=ours.py"], "expected an .npz file. Write the inputs with"),
        ("Mixer", ["--inputs=mixed.npz"], "the inputs y are not arguments of Mixer.__call__(x, sc"),
        ("Mixer", ["--inputs=objects.npz"], "objects.npz: expected arrays of numbers"),
        ("Mixer", ["--inputs=empty.npz"], "expected an .npz file with at least one array"),
        ("number", ["--inputs=x.npz"], "expected a flax.linen.Module, or a pair of it and its"),
        ("half", ["--inputs=x.npz"], "with the key 'params'"),
        ("nothing", ["--inputs=x.npz"], "ours.py does not define 'nothing'"),
        ("Mixer", ["--inputs=x.npz", "--num-classes=3"], "--num-classes describes a network of"),
    ],
)
def test_errors_say_what_to_do(files, capsys, ours, flags, message):
    np.savez("x.npz", X)
    np.savez("mixed.npz", x=X, y=X)
    np.savez("objects.npz", np.array([None]))
    np.savez("empty.npz")
    assert compare(ours, *flags) == 2
    assert message in capsys.readouterr().err


def test_a_network_is_one_of_the_library_or_of_the_user(files, capsys):
    for flags in ([], ["--model=resnet18", "--ours=ours.py:Mixer"]):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["compare", "theirs.py:Mixer", *flags])
        assert "--model" in capsys.readouterr().err


def test_compare_finds_equal_and_different_networks(checkpoint, tmp_path, capsys):
    maker = tmp_path / "maker.py"
    maker.write_text(MAKER)
    report, page = tmp_path / "report.json", tmp_path / "report.html"
    command = ["compare", f"{maker}:make", f"--checkpoint={checkpoint}", "--input-size=24"]
    files = [f"--json={report}", f"--html={page}"]
    assert cli.main([*command, *RESNET, *files]) == 0
    assert "Equal: " in capsys.readouterr().out
    assert json.loads(report.read_text())["equal"] is True
    assert "<svg" in page.read_text()

    wrong = [flag.replace("pytorch", "paper") for flag in RESNET]
    assert cli.main([*command, *wrong, "--float64", *files]) == 1
    assert "This is iteration 2 of the fusion stage1_block0/fuse" in capsys.readouterr().out
    assert json.loads(report.read_text())["first_mismatch"]["path"].startswith(
        "stage1_block0/fuse/global2"
    )


def test_compare_rejects_missing_files(capsys):
    assert cli.main(["compare", "nothing.py:make", "--model=resnet18"]) == 2
    assert "expected FILE.py:CALLABLE" in capsys.readouterr().err


def test_compare_draws_images_with_the_channels_of_the_network(tmp_path, monkeypatch):
    maker = tmp_path / "maker.py"
    maker.write_text(
        "import torch\n"
        "class Gray(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv1 = torch.nn.Conv2d(1, 8, 7)\n"
    )
    compared = Mock(side_effect=ValueError)
    monkeypatch.setattr("aff_jax.parity.compare", compared)
    assert cli.main(["compare", f"{maker}:Gray", *RESNET]) == 2
    assert compared.call_args.args[3].shape == (2, 64, 64, 1)
