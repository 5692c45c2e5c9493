"""Every command and all Python of the README and the guides is run or checked, at a small size.

What is run differently, and what is only looked at, stands in tables with its reason; a row of them
that fits no text any more is an error.
"""

import itertools
import os
import re
import shlex
import subprocess
import sys
import time
import tomllib

import jax
import numpy as np
import pytest
import torch
from PIL import Image

import aff_jax
from aff_jax import cli
from tests.aff_jax.convert.golden import DATA
from tests.docs.documents import DOCUMENTS, ROOT, blocks, commands, python
from tests.reference import torch_aff

LANGUAGES = {"sh", "python", "text", "{eval-rst}", "{include}", "{toctree}"}

FORMULAS = {"AFF(x, y) = x * M(x + y) + y * (1 - M(x + y))\n"}
"""Indented, and no commands."""

SHORT = "--config.epochs=0.1 --config.warmup_epochs=0 --config.eval_batch_size=64"
SMALLER = {
    # Two steps; of a comparison one variant with one seed.
    r"(-m train(?:\.compare)? .*)": rf"\1 {SHORT}",
    r"(-m train\.compare .*?)(?: --only=\S+)? --config.epochs": (
        r"\1 --only=add --config.seeds='(0,)' --config.epochs"
    ),
    # Compiles in half the time, and the first command has AFF.
    r"(-m train .*(?:configs/image_folder\.py|--config\.ema_decay).*)": (r"\1 --config.fusion=add"),
    r"=PATH\b": "=images",
    # The files below are of such networks.
    r"(--model resnet50) (.*)": (
        r"\1 \2 --field base_channels=8 --field 'blocks_per_stage=(1, 1, 1, 1)'"
    ),
    r"--model resnet50_v1d": "--model cifar_resnet8",
    r'create_model\("resnet50", (.*reference="pytorch")\)': (
        r'create_model("resnet50", \1, base_channels=8, blocks_per_stage=(1,) * 4, num_classes=10)'
    ),
    r"-m venv": "-m venv --without-pip",
}
"""What is written differently, so that it takes seconds: patterns, and what stands for them."""

ONLY_PARSED = {
    "--config.fusion_fields.iterations=3": "compiles for long, and then runs as the first does",
    "--num_processes=2": "the other process would be on another machine",
    "--config=configs/cifar100_resnet32_coarse.py": "the data set can't be had here",
    "--config.fusion=maximum": "exists once a reader has added it",
    "--config.model=wide_stem_resnet8": "exists once a reader has added it",
}
"""Commands of training whose flags alone are read, by a part of them, and why."""


def smaller(text):
    for pattern, replacement in SMALLER.items():
        text = re.sub(pattern, replacement, text)
    return text


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """What looks like the repository, with the files that are spoken of."""
    here = tmp_path_factory.mktemp("reader")
    for name in ("aff_jax", "configs", "train"):
        (here / name).symlink_to(ROOT / name)
    network = {"layers": (1, 1, 1, 1), "features": 8, "num_classes": 10, "fuse_type": "iAFF"}
    (here / "their_code.py").write_text(
        f"from tests.reference import torch_aff\n\n"
        f"def make_model():\n    return torch_aff.ResNet(**{network})\n"
    )
    small = aff_jax.create_model("cifar_resnet8", "add", num_classes=10)
    variables = jax.jit(small.init)(jax.random.key(0), np.zeros((2, 32, 32, 3), np.float32))
    aff_jax.save(here / "network.safetensors", variables, small)
    torch.save(torch_aff.ResNet(**network).state_dict(), here / "iaff_resnet50.pth")
    (here / "weights.params").symlink_to(DATA / "cifar_resnet8_aff.params")
    for split, label in itertools.product(("train", "test"), ("dark", "light")):
        folder = here / "images" / split / label
        folder.mkdir(parents=True)
        for index in range(32):
            pixels = np.full((40, 36, 3), index + 100 * (label == "light"), np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")
    return here


@pytest.fixture
def here(directory, monkeypatch):
    monkeypatch.chdir(directory)
    return directory


def run(command, here):
    program, *arguments = shlex.split(command)
    if program == ".venv/bin/aff-jax":
        assert cli.main(arguments) == 0
    elif program == "make":
        dry_run(arguments)
    elif program == ".venv/bin/pip":
        check_installation(arguments)
    elif program in ("python3", ".venv/bin/python"):
        run_python(command, arguments, here)
    else:
        pytest.fail(f"don't know how to run {command}")


def dry_run(arguments):
    """What `make` would do, without the variables of a `make` that these tests run under."""
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "ARGS")}
    ran = subprocess.run(
        ["make", "--dry-run", *arguments],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return ran.stdout


def check_installation(arguments):
    """Nothing is downloaded here: the extras are looked up."""
    assert arguments.pop(0) == "install"
    flag, package = arguments
    assert flag in ("-e", "--editable")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = re.fullmatch(r"\.(?:\[(.*)\])?", package)[1]
    assert not wanted or set(wanted.split(",")) <= project["optional-dependencies"].keys()


def run_python(command, arguments, here):
    if arguments[:2] == ["-m", "pytest"]:  # `make test` has run them
        assert all((ROOT / path).exists() for path in arguments[2:])
        return
    if any(part in command for part in ONLY_PARSED):
        assert arguments[:2] == ["-m", "train"]
        parse = "import sys; from train.__main__ import parse_flags; parse_flags(sys.argv)"
        arguments[:2] = ["-c", parse]
    environment = {
        **os.environ,
        "HOME": str(here),  # where TFDS and the compilation cache are unless told otherwise
        "JAX_COMPILATION_CACHE_DIR": "",
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "",  # one device is compiled for in less time
        # Runs of a few steps compile longer than they compute.
        "JAX_DISABLE_MOST_OPTIMIZATIONS": os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS", "1"),
    }
    ran = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=here, capture_output=True, text=True
    )
    assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"


def test_every_command_runs(here):
    """Each once, in the order of the documents, as a reader of all of them would."""
    done = set()
    for text in DOCUMENTS.values():
        for command in map(smaller, commands(text)):
            if command not in done:
                started = time.monotonic()
                run(command, here)
                print(f"{time.monotonic() - started:5.1f} s  {command}")
                done.add(command)


@pytest.mark.parametrize("name", [name for name, text in DOCUMENTS.items() if python(text)])
def test_all_python_runs(name, here):
    if name == "docs/train.md":
        model = aff_jax.create_model("cifar_resnet8", num_classes=10)
        images = np.zeros((1, 8, 8, 1), np.float32)
        variables = jax.jit(model.init)(jax.random.key(0), images)
        aff_jax.save("digits.safetensors", variables, model, overwrite=True)
    namespace = {"__name__": "__main__"}
    for code in python(DOCUMENTS[name]):
        exec(compile(smaller(code), name, "exec"), namespace)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_block_is_of_a_known_kind(name):
    for language, code in blocks(DOCUMENTS[name]):
        assert language in LANGUAGES or code in FORMULAS, code


@pytest.mark.parametrize("pattern", SMALLER)
def test_what_is_written_differently_is_still_there(pattern):
    text = "\n".join(code for text in DOCUMENTS.values() for code in commands(text) + python(text))
    for before in SMALLER:  # the later ones meet what the earlier have made
        if before == pattern:
            break
        text = re.sub(before, SMALLER[before], text)
    assert re.search(pattern, text)


@pytest.mark.parametrize("part", ONLY_PARSED)
def test_what_is_only_parsed_is_still_there(part):
    assert any(part in command for text in DOCUMENTS.values() for command in commands(text))


def test_formulas_are_still_there():
    assert {code for text in DOCUMENTS.values() for _, code in blocks(text)} >= FORMULAS


def test_make_train_is_the_command_below_it():
    (train,) = (line for line in dry_run(["train"]).splitlines() if "-m train" in line)
    assert train.strip() in commands(DOCUMENTS["README.md"])
