"""Tests of `start_session` in new processes, since it must run before JAX starts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json
import jax
from benchmarks.session import add_session_arguments, start_session
from benchmarks.timing import make_parser

parser = make_parser("", rounds=1)
add_session_arguments(parser, ["float32", "bfloat16"])
session = start_session(parser, None, device_per_thread=True)
found = {name: getattr(session, name) for name in ("flags", "gpu", "dtype", "notes")}
print(json.dumps(found | {"devices": len(jax.devices())}))
"""


def start(*flags, **variables):
    """Start a session with these flags and environment variables in a new process."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    environment = inherited | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""} | variables
    command = [sys.executable, "-c", SCRIPT, "--threads=2", *flags]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("flags", "note"),
    [((), "retained freed memory"), (("--return-memory",), "C library decided")],
)
def test_the_notes_say_whether_freed_memory_is_retained(flags, note):
    session = start(*flags, JAX_PLATFORMS="cpu")
    assert note in session["notes"][-1]
    assert session["flags"] == ["--threads=2", *flags]
    assert (session["gpu"], session["dtype"], session["devices"]) == (False, "float32", 2)


def test_a_session_starts_with_the_plugin_of_an_accelerator(tmp_path):
    """The number of devices and the memory are set before JAX looks for devices."""
    described = tmp_path / "accelerator-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: accelerator\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text("[jax_plugins]\naccelerator = accelerator\n")
    (tmp_path / "accelerator.py").write_text("def initialize():\n    pass\n")
    session = start(PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}")
    assert session["devices"] == 2
    assert "C library decided" in session["notes"][-1]
