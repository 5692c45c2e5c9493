"""Exit status and errors of all commands, and the installed program."""

import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from safetensors.numpy import save_file

import aff_jax
from aff_jax.cli import main as cli
from aff_jax.cli import models
from tests.aff_jax.cli.pytorch_network import MAKER, RESNET

FAILURES = """
def fail():
    raise RuntimeError("no such luck")

def number():
    return 3
"""


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["compare", "MAKER:make", "--model=resnet18", "--checkpoint=CHECKPOINT"], "not match"),
        (["compare", "MAKER:fail", "--model=resnet18"], "raised RuntimeError: no such luck"),
        (["compare", "MAKER:number", "--model=resnet18"], "expected a torch.nn.Module, got a int"),
        (["compare", "MAKER:make", "--model=resnet18", "--html=no/where"], "no directory no"),
        (["compare", "MAKER:make", "--ours=MAKER:make"], "expected --inputs FILE.npz"),
        (["compare", "MAKER:make", "--ours=MAKER:make", "--field=width=2"], "remove it"),
        (["models", "--filter=zzz"], "unknown model 'zzz'"),
        (["models", "--field=fusion=add"], "expected --fusion=add"),
        (["summary", "resnet18", "--field=reference=mxnet"], "expected --reference=mxnet"),
        (
            ["compare", "MAKER:make", "--model=resnet18", "--field=num_classes=10"],
            "error: --field=num_classes: expected --num-classes=10, its own flag.",
        ),
        (
            [
                "convert",
                "CHECKPOINT",
                "CHECKPOINT.safetensors",
                "--model=resnet18",
                "--field=name=x",
            ],
            "error: --field=name: the name of the network is not one of its fields.",
        ),
        pytest.param(
            ["summary", "resnet18", "--field=blocks_per_stage=5"],
            "error: --field: ResNet: expected a",
            marks=pytest.mark.wrong_types,
        ),
    ],
)
def test_only_different_networks_exit_with_1(tmp_path, capsys, command, message):
    maker, checkpoint = tmp_path / "maker.py", tmp_path / "w.safetensors"
    maker.write_text(MAKER + FAILURES)
    save_file({"foo": np.zeros(2, np.float32)}, checkpoint)
    places = {"MAKER": str(maker), "CHECKPOINT": str(checkpoint)}
    for name, path in places.items():
        command = [part.replace(name, path) for part in command]
    assert cli.main(command) == 2
    assert message in capsys.readouterr().err


def test_ctrl_c_ends_a_command_with_one_line(monkeypatch, capsys):
    monkeypatch.setattr(models, "create", Mock(side_effect=KeyboardInterrupt))
    assert cli.main(["models"]) == 130
    assert capsys.readouterr().err == "\nInterrupted.\n"


def test_an_unexpected_error_does_not_exit_with_1(monkeypatch, capsys):
    monkeypatch.setattr(models, "create", Mock(side_effect=RuntimeError("no such luck")))
    assert cli.main(["models"]) == 2
    assert "\nerror: RuntimeError: no such luck\n" in capsys.readouterr().err


def test_the_program_is_installed():
    program = Path(sys.executable).parent / "aff-jax"
    assert shutil.which(program)
    process = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == aff_jax.__version__


def test_paths_begin_in_the_home_directory(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(checkpoint, tmp_path / "iaff.pth")
    assert cli.main(["convert", "~/iaff.pth", "~/iaff.safetensors", *RESNET]) == 0
    assert (tmp_path / "iaff.safetensors").exists()
