"""Tests that StableHLO files compute the same without this library."""

import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import aff_jax
from aff_jax.inference.stablehlo import PLATFORMS, save_stablehlo
from tests.aff_jax.random_variables import random_variables

# A script that blocks the import of this library and Flax, and runs a file on several batches.
RUN = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("aff_jax", "flax"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import jax
import numpy as np

program, *batches = sys.argv[1:]
with open(program, "rb") as file:
    run = jax.export.deserialize(file.read()).call
for batch in batches:
    inputs = np.load(batch)
    np.savez(batch + ".out", *jax.tree.leaves(run(*inputs.values())))
assert not {"aff_jax", "flax"} & set(sys.modules)
"""


def run_without_library(program, batches, folder):
    """Return the outputs for each tuple of inputs, computed by a process that only has JAX."""
    files = []
    for number, inputs in enumerate(batches):
        files.append(folder / f"{number}.npz")
        np.savez(files[-1], *inputs)
    subprocess.run(
        [sys.executable, "-c", RUN, program, *files],
        check=True,
        cwd=folder,
        env={"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", **os.environ, "PYTHONPATH": ""},
        timeout=300,
    )
    return [list(np.load(f"{file}.out.npz").values()) for file in files]


def images(batch, size=16):
    return np.float32(np.random.default_rng(batch).standard_normal((batch, size, size, 3)))


MODELS = {
    "a host": (aff_jax.create_model("cifar_resnet8", "iaff", num_classes=5), 1),
    "a backbone": (aff_jax.create_model("cifar_resnet8", "add", features_only=True), 1),
    "a fusion of two inputs": (aff_jax.IAFF(reduction=1), 2),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param("a host", marks=pytest.mark.slow), "a backbone", "a fusion of two inputs"],
)
def test_a_process_without_this_library_computes_the_same_outputs(name, tmp_path):
    model, inputs = MODELS[name]
    variables = random_variables(model, *[images(2)] * inputs, dtype=np.float32)
    path = tmp_path / "model.stablehlo"
    returned = save_stablehlo(path, model, variables, *[images(2)] * inputs)
    assert returned.platforms == ("cpu", "cuda", "tpu")
    batches = [tuple(images(b) + k for k in range(inputs)) for b in (1, 5)]
    for batch, outputs in zip(batches, run_without_library(path, batches, tmp_path), strict=True):
        expected = jax.tree.leaves(jax.jit(model.apply)(variables, *batch))
        assert len(outputs) == len(expected)
        for wanted, output in zip(expected, outputs, strict=True):
            largest = np.abs(wanted).max()
            np.testing.assert_allclose(output, wanted, rtol=0, atol=1e-5 * largest)


def test_a_fixed_batch_size_takes_no_other(tmp_path):
    model = aff_jax.MSCAM()
    variables = model.init(jax.random.key(0), images(3))
    shape = jax.ShapeDtypeStruct((3, 16, 16, 3), jnp.float32)
    path = tmp_path / "model.stablehlo"
    save_stablehlo(path, model, variables, shape, symbolic_batch=False, platforms=["cpu"])
    program = jax.export.deserialize(path.read_bytes())
    assert program.platforms == ("cpu",)
    np.testing.assert_allclose(
        program.call(images(3)), model.apply(variables, images(3)), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(ValueError, match="3"):
        program.call(images(2))


def test_a_program_for_every_platform_is_written(tmp_path):
    model = nn.Dense(2)
    variables = model.init(jax.random.key(0), images(1))
    path = tmp_path / "model.stablehlo"
    save_stablehlo(path, model, variables, images(1), platforms=[*PLATFORMS])
    assert jax.export.deserialize(path.read_bytes()).platforms == ("cpu", "cuda", "rocm", "tpu")


def test_wrong_arguments_are_refused_and_leave_no_file(tmp_path):
    model = aff_jax.MSCAM()
    variables = model.init(jax.random.key(0), images(2))
    path = tmp_path / "model.stablehlo"
    with pytest.raises(ValueError, match=r"unknown platform 'cudda'. Did you mean 'cuda'"):
        save_stablehlo(path, model, variables, images(1), platforms=["cudda"])
    with pytest.raises(ValueError, match="at least one platform"):
        save_stablehlo(path, model, variables, images(1), platforms=[])
    with pytest.raises(ValueError, match="expected example inputs for MSCAM, got none"):
        save_stablehlo(path, model, variables)
    with pytest.raises(ValueError, match="batch axis"):
        save_stablehlo(path, model, variables, np.float32(1))
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"other content")
    with pytest.raises(FileExistsError, match="already exists"):
        save_stablehlo(path, model, variables, images(1))
    assert path.read_bytes() == b"other content"


def test_the_error_without_flatbuffers_says_how_to_install_it(tmp_path, monkeypatch):
    def serialize(*_):
        raise ImportError("Please install 'flatbuffers'")

    monkeypatch.setattr(jax.export.Exported, "serialize", serialize)
    model = aff_jax.MSCAM()
    variables = model.init(jax.random.key(0), images(2))
    with pytest.raises(ImportError, match=r"pip install flatbuffers"):
        save_stablehlo(tmp_path / "model.stablehlo", model, variables, images(1))
    assert list(tmp_path.iterdir()) == []
