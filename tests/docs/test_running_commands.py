"""The commands and the Python code of the README and the guides run.

They run with small networks, few steps and small files. `short_commands.py` lists what is changed
for that and which commands are only parsed.
"""

import itertools
import os
import shlex
import subprocess
import sys
import time
from importlib import import_module

import jax
import numpy as np
import pytest
import torch
from PIL import Image

import aff_jax
from aff_jax.cli.main import main as aff_jax_command
from aff_jax.images import ImageTask
from tests.aff_jax.convert.golden import DATA
from tests.docs.documents import DOCUMENTS, ROOT, commands, python
from tests.docs.short_commands import ONLY_PARSED, smaller
from tests.reference import torch_aff


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
        f"    return torch.nn.Sequential(OrderedDict(proj=torch.nn.Linear(3, 4)))\n\n"
        f"class TorchNetwork(torch.nn.Module):\n"
        f"    def __init__(self):\n"
        f"        super().__init__()\n"
        f"        self.stem = torch.nn.Conv2d(3, 8, 3, padding=1)\n"
        f"        self.fuse = torch_aff.AFF(8)\n\n"
        f"    def forward(self, x):\n"
        f"        x = self.stem(x)\n        return self.fuse(x, x.relu())\n\n"
        f"images = torch.rand(2, 6, 6, 3).numpy()\n"
    )
    (here / "our_code.py").write_text(
        "import flax.linen as nn\n\n"
        "import aff_jax\n\n"
        "class Encoder(nn.Module):\n"
        "    @nn.compact\n"
        "    def __call__(self, x):\n        return nn.Dense(4, name='dense')(x)\n\n"
        "def make_encoder():\n    return Encoder()\n\n"
        "class Network(nn.Module):\n"
        "    @nn.compact\n"
        "    def __call__(self, x, train=False):\n"
        "        x = nn.Conv(8, (3, 3), name='first')(x)\n"
        "        return aff_jax.AFF(gain=2, name='fuse')(x, nn.relu(x), train)\n"
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
    for split, kind in itertools.product(("train", "val"), ("images", "masks")):
        folder = here / "masks" / split / kind
        folder.mkdir(parents=True)
        for index in range(8):
            pixels = np.arange(48 * 64).reshape(48, 64) // 32 % 2
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    (here / "masks" / "classes.txt").write_text("left\nright\n")
    return here


@pytest.fixture
def here(directory, monkeypatch):
    monkeypatch.chdir(directory)
    monkeypatch.syspath_prepend(directory)
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
        module = {"train": "train.__main__", "train.plan": "train.plan.__main__"}
        module = module.get(arguments[1], arguments[1])
        define = f"from {module} import define_flags; define_flags()"
        parse = (
            f"import sys; {define}; from train.command_flags import parse_flags; "
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
        names = tuple("0123456789")
        task = ImageTask("classification", names, (8, 8), channels=1, mean=(0.5,), std=(0.5,))
        aff_jax.save("digits.safetensors", variables, model, image_task=task, overwrite=True)
    if name == "docs/datasets.md":
        import_module("train.data.sources.digits")  # TFDS registers the dataset
    namespace = {"__name__": "__main__"}
    for code in python(DOCUMENTS[name]):
        exec(compile(smaller(code), name, "exec"), namespace)
