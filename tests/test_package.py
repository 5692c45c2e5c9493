"""The package builds, installs into an empty environment, and works there."""

import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import aff_jax

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent

# Runs in a directory without a source tree.
SMOKE = """
import sys
import numpy as np
import aff_jax

assert aff_jax.__file__.startswith(sys.prefix), aff_jax.__file__
model = aff_jax.create_model("cifar_resnet8", num_classes=5)
images = np.ones((2, 8, 8, 3), np.float32)
variables = aff_jax.load("given.safetensors")[1]
logits = model.apply(variables, images)
assert logits.shape == (2, 5)
aff_jax.save("saved.safetensors", variables, model)
again, loaded = aff_jax.load("saved.safetensors")
np.testing.assert_array_equal(again.apply(loaded, images), logits)
print(aff_jax.__version__)
"""


def run(*command, cwd):
    process = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the sdist, and a wheel from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def environment(built, tmp_path_factory):
    """Make an environment with the wheel and the dependencies, but without this source tree."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    # Tests have no network, so a .pth file adds the packages of this environment. Python does not
    # read the .pth files in there, so an editable installation of this library is not found.
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    run(*pip, "install", "--no-deps", "--no-index", built[1], cwd=folder)
    return folder


def test_wheel_has_only_the_library(built):
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())
    sources = {str(p.relative_to(ROOT)) for p in (ROOT / "aff_jax").rglob("*.py")}
    info = f"aff_jax-{aff_jax.__version__}.dist-info"
    assert {n for n in names if not n.startswith(info)} == {*sources, "aff_jax/py.typed"}
    assert f"{info}/licenses/LICENSE" in names


def test_sdist_has_tests_and_documents(built):
    with tarfile.open(built[0]) as sdist:
        names = {name.split("/", 1)[1] for name in sdist.getnames()}
    for name in ("aff_jax/py.typed", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        assert name in names, name
    for folder in ("tests", "train", "configs", "docs", "examples", "notebooks", "benchmarks"):
        sources = {str(p.relative_to(ROOT)) for p in (ROOT / folder).rglob("*.py")}
        assert sources <= names, folder
    assert not {name.split("/")[0] for name in names} & {"runs", ".venv", "build", "shared"}


def test_wheel_works_in_an_empty_environment(environment, tmp_path):
    import jax
    import jax.numpy as jnp

    model = aff_jax.create_model("cifar_resnet8", num_classes=5)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((2, 8, 8, 3)))
    ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), shapes)
    aff_jax.save(tmp_path / "given.safetensors", ones, model)

    programs = environment / "bin"
    assert run(programs / "python", "-c", SMOKE, cwd=tmp_path).strip() == aff_jax.__version__
    listed = run(
        programs / "aff-jax", "models", "--filter=cifar_resnet8", "--input-size=8", cwd=tmp_path
    )
    assert "cifar_resnet8" in listed
