"""The examples run, learn in a few steps, and need nothing of `train`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import torch

import aff_jax

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

SMALLER = {
    "train_minimal": ("EPOCHS, BATCH = 10,", "EPOCHS, BATCH = 2,"),
    "finetune_backbone": ("STEPS = 300", "STEPS = 50"),
    "segment": ("CLASSES = 300,", "CLASSES = 50,"),
}
"""Code of examples, and the shorter training that the test runs instead."""


def run(tmp_path, name, *arguments):
    """Run a shorter example as a user does, and return what it prints."""
    text = (ROOT / "examples" / f"{name}.py").read_text()
    if name in SMALLER:
        long, short = SMALLER[name]
        assert long in text
        text = text.replace(long, short)
    example = tmp_path / f"{name}.py"
    example.write_text(text)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-W", "error", example.name, *arguments],
        cwd=tmp_path,
        env={**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "0", "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def last_number(pattern, printed):
    return float(re.findall(pattern, printed)[-1])


def test_examples_need_nothing_of_the_training_application():
    assert {*SMALLER, "audio"} == {path.stem for path in EXAMPLES}
    for path in EXAMPLES:
        assert not re.search(r"^(from|import) (train|configs|tests)\b", path.read_text(), re.M)


@pytest.mark.slow
def test_train_minimal_learns(tmp_path):
    printed = run(tmp_path, "train_minimal")
    assert last_number(r"test accuracy (.+)%", printed) > 50  # chance is 10 %


@pytest.mark.slow
def test_segment_learns(tmp_path):
    printed = run(tmp_path, "segment")
    assert last_number(r"loss (\S+)", printed) < 4  # uniform probabilities have 2 log 11 = 4.8


@pytest.mark.slow
def test_finetune_backbone_learns(tmp_path):
    model = aff_jax.create_model("resnet18", fusion="add")
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    torch.save(aff_jax.convert.to_torch(variables, model), tmp_path / "resnet18.pth")
    printed = run(tmp_path, "finetune_backbone", "resnet18.pth")
    assert last_number(r"test accuracy (.+)%", printed) > 80


@pytest.mark.slow
def test_audio_equals_pytorch(tmp_path):
    assert "equal to PyTorch: True" in run(tmp_path, "audio")
