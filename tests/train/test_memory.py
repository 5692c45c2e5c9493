"""Freed memory stays with the process: counted in page faults, in a process of its own."""

import platform
import subprocess
import sys

import pytest

from train import memory

SCRIPT = """
import resource, sys
import numpy as np
from train.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(2):
    np.ones(64 * 2**20, np.uint8)  # more than glibc ever keeps by itself
before = faults()
for _ in range(4):
    np.ones(64 * 2**20, np.uint8)
print(faults() - before)
"""


def count_faults(what):
    command = [sys.executable, "-c", SCRIPT, what]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_arrays_are_mapped_once():
    # NumPy asks for huge pages, which are of 2 MB: 32 of them an array.
    assert count_faults("leave") >= 4 * 32
    assert count_faults("keep") < 4


@pytest.mark.parametrize("name", ["platform", "backend", "libc"])
def test_elsewhere_nothing_is_done(name, monkeypatch):
    if name == "platform":
        monkeypatch.setattr(sys, "platform", "darwin")
    elif name == "backend":
        monkeypatch.setattr(memory.jax, "default_backend", lambda: "tpu")
    else:

        def missing(path):
            raise OSError(path)

        monkeypatch.setattr(memory.ctypes, "CDLL", missing)
    assert not memory.keep_freed_memory()
