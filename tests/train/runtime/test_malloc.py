"""Test that a process keeps freed memory, by its page faults."""

import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from train.runtime import malloc

ARRAYS = """
import resource, sys
import numpy as np
from train.runtime.malloc import retain_freed_memory

if sys.argv[1] == "keep":
    assert retain_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(2):
    np.ones(64 * 2**20, np.uint8)  # larger than any array that glibc keeps by default
before = faults()
for _ in range(4):
    np.ones(64 * 2**20, np.uint8)
print(faults() - before)
"""


STEPS = """
import resource, sys

if sys.argv[1] == "keep":
    from train.runtime.malloc import retain_freed_memory
    assert retain_freed_memory()

import jax
import jax.numpy as jnp
import aff_jax

x, y = jax.random.normal(jax.random.key(0), (2, 32, 16, 16, 256))  # 8 MB each
iaff = aff_jax.IAFF()
variables = iaff.init(jax.random.key(1), x, y)

@jax.jit
def step(x, y):
    def loss(x, y):
        z, _ = iaff.apply(variables, x, y, train=True, mutable=["batch_stats"])
        return jnp.sum(z * z)
    return jax.grad(loss, argnums=(0, 1))(x, y)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

counts = []
for _ in range(12):
    before = faults()
    jax.block_until_ready(step(x, y))
    counts.append(faults() - before)
print(sorted(counts)[6])
"""


def count_faults(script, mode):
    command = [sys.executable, "-c", script, mode]
    malloc_settings = ("XLA_FLAGS", "MALLOC_", "GLIBC_TUNABLES")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(malloc_settings)}
    environment["JAX_PLATFORMS"] = "cpu"
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return int(done.stdout)


needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")


@needs_glibc
def test_arrays_use_the_same_pages_again():
    # NumPy requests huge pages of 2 MB, so an array has 32 pages.
    assert count_faults(ARRAYS, "leave") >= 4 * 32
    assert count_faults(ARRAYS, "keep") < 4


@pytest.mark.slow
@needs_glibc
def test_training_steps_use_the_same_pages_again_in_all_threads():
    assert count_faults(STEPS, "leave") > 4000  # pages of 4 kB: a third of those of a step
    assert count_faults(STEPS, "keep") < 400


@pytest.mark.parametrize("name", ["platform", "backend", "libc"])
def test_no_effect_on_other_systems_and_devices(name, monkeypatch):
    if name == "platform":
        monkeypatch.setattr(sys, "platform", "darwin")
    elif name == "backend":
        monkeypatch.setattr(malloc, "runs_on_cpu", lambda: False)
    else:

        def missing(path):
            raise OSError(path)

        monkeypatch.setattr(malloc.ctypes, "CDLL", missing)
    assert not malloc.retain_freed_memory()


@pytest.mark.parametrize(
    ("platforms", "plugins", "libtpu", "expected"),
    [
        ("cpu", ["cuda"], True, True),
        ("cuda,cpu", [], False, False),
        (None, [], False, True),
        ("", ["cuda"], False, False),
        (None, [], True, False),
    ],
)
def test_runs_on_cpu_does_not_start_jax(platforms, plugins, libtpu, expected, monkeypatch):
    config = SimpleNamespace(jax_platforms=platforms)
    monkeypatch.setattr(malloc, "jax", SimpleNamespace(config=config))  # only the config
    monkeypatch.setattr(malloc.importlib.metadata, "entry_points", lambda group: plugins)
    monkeypatch.setattr(malloc.importlib.util, "find_spec", lambda name: libtpu or None)
    assert malloc.runs_on_cpu() == expected
