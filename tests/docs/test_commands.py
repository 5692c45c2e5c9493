"""The commands and the Python code of the README and the guides work.

The fast tests parse them. The slow tests run them with small networks, few steps and small files.
Tables below list what is changed for that and which commands are only parsed.
"""

import argparse
import itertools
import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
from importlib import import_module
from unittest import mock

import jax
import numpy as np
import pytest
import torch
from PIL import Image

import aff_jax
from aff_jax.cli.main import main as aff_jax_command
from tests.aff_jax.convert.golden import DATA
from tests.docs.documents import DOCUMENTS, ROOT, blocks, commands, python
from tests.reference import torch_aff

LANGUAGES = {"sh", "python", "text", "bibtex", "{eval-rst}", "{include}", "{toctree}"}

FORMULAS = {"AFF(x, y) = x * M(x + y) + y * (1 - M(x + y))\n"}
"""Indented blocks that are not commands."""

SHORT = "--config.epochs=0.1 --config.warmup_epochs=0 --config.eval_batch_size=64"
SMALLER = {
    # Two steps; for a comparison, one variant with one seed.
    r"(-m train(?:\.compare)? .*)": rf"\1 {SHORT}",
    r"(-m train\.compare .*?)(?: --only=\S+)? --config.epochs": (
        r"\1 --only=add --config.seeds='(0,)' --config.epochs"
    ),
    # Addition compiles in half the time, and the first command covers AFF.
    r"(-m train .*(?:configs/image_folder\.py|--config\.ema_decay).*)": (r"\1 --config.fusion=add"),
    r"=PATH\b": "=images",
    # The weight files of the fixture are of small networks.
    r"(--model resnet50) (.*)": (
        r"\1 \2 --field base_channels=8 --field 'blocks_per_stage=(1, 1, 1, 1)'"
    ),
    r"--model resnet50_v1d": "--model cifar_resnet8",
    r'create_model\("resnet50", (.*reference="pytorch")\)': (
        r'create_model("resnet50", \1, base_channels=8, blocks_per_stage=(1,) * 4, num_classes=10)'
    ),
    r"-m venv": "-m venv --without-pip",
}
"""Patterns in commands and code, and their replacements, which make them run in seconds."""

ONLY_PARSED = {
    "--config.fusion_fields.iterations=3": "compiles for long and then runs as the first command",
    "--extend": "needs a finished run; test_loop_resuming.py extends one",
    "--config=configs/compare_folder.py": "needs a folder of images",
    "--num_processes=2": "needs a second machine",
    "--config=configs/cifar100_resnet32_coarse.py": "needs a download",
    "--config.dataset=fashion_mnist": "needs a download; test_contributing.py reads a small one",
    "--workdir=runs/parameter_norm": "test_contributing.py runs it on a changed copy",
    "--config.fusion=maximum": "needs the example of CONTRIBUTING",
    "--config.model=wide_stem_resnet8": "needs the example of CONTRIBUTING",
    "--config.optimizer=lion": "needs the example of CONTRIBUTING",
}
"""Parts of training commands that are parsed but not run, and the reason."""

COMMANDS = sorted(set(itertools.chain.from_iterable(map(commands, DOCUMENTS.values()))))


def smaller(text):
    for pattern, replacement in SMALLER.items():
        text = re.sub(pattern, replacement, text)
    return text


# Fast: parse.


@pytest.mark.parametrize("command", COMMANDS)
def test_command_parses(command):
    program, *arguments = shlex.split(command)
    if program == ".venv/bin/aff-jax":
        parse_aff_jax(arguments)
    elif program == "make":
        dry_run(arguments)
    elif program == ".venv/bin/pip":
        check_installation(arguments)
    elif arguments[:2] == ["-m", "pytest"]:
        assert all((ROOT / path).exists() for path in arguments[2:])
    elif arguments[:2] == ["-m", "venv"]:
        assert len(arguments) == 3
    elif arguments[0] == "-m" and arguments[1] in ("train", *TRAIN_COMMANDS):
        check_flags(arguments[2:])
    else:
        pytest.fail(f"don't know how to parse {command}")


TRAIN_COMMANDS = [f"train.{path.stem}" for path in (ROOT / "train").glob("*.py")]
FLAGS = {
    flag
    for path in (ROOT / "train").glob("*.py")
    for flag in re.findall(r'(?:DEFINE_|define_)\w+\(\s*"(\w+)"', path.read_text())
}
SWITCHES = {"extend"}
"""Boolean flags, which have no value."""


class Parsed(Exception):
    """The arguments were accepted."""


def parse_aff_jax(arguments):
    """Parse the arguments of `aff-jax` without running the command."""
    parse_args = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser, *arguments):
        parse_args(parser, *arguments)
        raise Parsed

    replaced = mock.patch.object(argparse.ArgumentParser, "parse_args", parse_and_stop)
    with replaced, pytest.raises(Parsed):
        aff_jax_command(arguments)


def check_flags(arguments):
    """Check that the flags of a training command are defined, and that its config has the fields.

    Parsing them with absl would take a process for each command, because flags are global.
    """
    config = None
    for argument in arguments:
        flag, separator, value = argument.removeprefix("--").partition("=")
        assert argument.startswith("--"), argument
        assert separator or flag in SWITCHES, argument
        name, *fields = flag.split(".")
        assert name in FLAGS, argument
        if flag == "config":
            path, _, option = value.partition(":")
            get_config = import_module(path.removesuffix(".py").replace("/", ".")).get_config
            config = get_config(option) if option else get_config()
        elif fields:
            assert fields[0] in config, argument
            assert len(fields) == 1 or fields[0] in ("fusion_fields", "model_fields"), argument


def dry_run(arguments):
    """Return the commands of `make`, without variables of a `make` that started the tests."""
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
    """Check that the extras exist; nothing is downloaded."""
    assert arguments.pop(0) == "install"
    flag, package = arguments
    assert flag in ("-e", "--editable")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = re.fullmatch(r"\.(?:\[(.*)\])?", package)[1]
    assert not wanted or set(wanted.split(",")) <= project["optional-dependencies"].keys()


@pytest.mark.parametrize("name", [name for name, text in DOCUMENTS.items() if python(text)])
def test_python_compiles(name):
    for code in python(DOCUMENTS[name]):
        compile(code, name, "exec")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_block_is_of_a_known_kind(name):
    for language, code in blocks(DOCUMENTS[name]):
        assert language in LANGUAGES or code in FORMULAS, code


@pytest.mark.parametrize("pattern", SMALLER)
def test_every_replaced_pattern_is_in_the_documents(pattern):
    text = "\n".join(code for text in DOCUMENTS.values() for code in commands(text) + python(text))
    for before in SMALLER:  # a later pattern may match the replacement of an earlier one
        if before == pattern:
            break
        text = re.sub(before, SMALLER[before], text)
    assert re.search(pattern, text)


@pytest.mark.parametrize("part", ONLY_PARSED)
def test_every_parsed_command_is_in_the_documents(part):
    assert any(part in command for command in COMMANDS)


def test_every_formula_is_in_the_documents():
    assert {code for text in DOCUMENTS.values() for _, code in blocks(text)} >= FORMULAS


def test_make_train_runs_the_command_of_the_readme():
    (train,) = (line for line in dry_run(["train"]).splitlines() if "-m train" in line)
    assert train.strip() in commands(DOCUMENTS["README.md"])


# Slow: run.


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A directory like the repository, with the files that the commands read."""
    here = tmp_path_factory.mktemp("reader")
    for name in ("aff_jax", "configs", "train"):
        (here / name).symlink_to(ROOT / name)
    network = {"layers": (1, 1, 1, 1), "features": 8, "num_classes": 10, "fuse_type": "iAFF"}
    (here / "their_code.py").write_text(
        f"from collections import OrderedDict\n\nimport torch\n\n"
        f"from tests.reference import torch_aff\n\n"
        f"def make_model():\n    return torch_aff.ResNet(**{network})\n\n"
        f"def make_encoder():\n"
        f"    return torch.nn.Sequential(OrderedDict(proj=torch.nn.Linear(3, 4)))\n"
    )
    (here / "our_code.py").write_text(
        "import flax.linen as nn\n\n"
        "class Encoder(nn.Module):\n"
        "    @nn.compact\n"
        "    def __call__(self, x):\n        return nn.Dense(4, name='dense')(x)\n\n"
        "def make_encoder():\n    return Encoder()\n"
    )
    np.savez(here / "batch.npz", np.ones((2, 3), np.float32))
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
        assert aff_jax_command(arguments) == 0
    elif program in ("python3", ".venv/bin/python") and arguments[:2] != ["-m", "pytest"]:
        run_python(command, arguments, here)


def run_python(command, arguments, here):
    if any(part in command for part in ONLY_PARSED):
        assert arguments[0] == "-m"
        module = {"train": "train.__main__", "train.compare": "train.compare"}[arguments[1]]
        parse = (
            f"import sys, {module}; from train.command_flags import parse_flags; "
            f"parse_flags(sys.argv)"
        )
        arguments[:2] = ["-c", parse]
    environment = {
        **os.environ,
        "HOME": str(here),  # the default directory of TFDS and of the compilation cache
        "JAX_COMPILATION_CACHE_DIR": "",
        "PYTHONPATH": str(ROOT),
        "XLA_FLAGS": "",  # a single device, because compilation for one takes less time
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # a run of a few steps mostly compiles
    }
    ran = subprocess.run(
        [sys.executable, *arguments], env=environment, cwd=here, capture_output=True, text=True
    )
    assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"


@pytest.mark.slow
def test_every_command_runs(here):
    """Run each command once, in the order of the documents."""
    done = set()
    for text in DOCUMENTS.values():
        for command in map(smaller, commands(text)):
            if command not in done:
                started = time.monotonic()
                run(command, here)
                print(f"{time.monotonic() - started:5.1f} s  {command}")
                done.add(command)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, text in DOCUMENTS.items() if python(text)])
def test_python_runs(name, here):
    if name == "docs/train.md":
        model = aff_jax.create_model("cifar_resnet8", num_classes=10)
        images = np.zeros((1, 8, 8, 1), np.float32)
        variables = jax.jit(model.init)(jax.random.key(0), images)
        aff_jax.save("digits.safetensors", variables, model, overwrite=True)
    namespace = {"__name__": "__main__"}
    for code in python(DOCUMENTS[name]):
        exec(compile(smaller(code), name, "exec"), namespace)
