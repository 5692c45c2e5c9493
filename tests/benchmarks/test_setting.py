"""The setting of a benchmark, in processes of their own: it decides before JAX starts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = """
import dataclasses, json, sys
import jax
from benchmarks.setting import add_setting_arguments, set_up
from benchmarks.timing import measuring_arguments

parser = measuring_arguments("", rounds=1)
add_setting_arguments(parser, ["float32", "bfloat16"])
found = dataclasses.asdict(set_up(parser.parse_args(sys.argv[1:]), cpu_devices=2))
print(json.dumps(found | {"devices": len(jax.devices())}))
"""


def setting(*flags, **environment):
    ours = {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", **environment}
    kept = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_PLATFORMS")}
    command = [sys.executable, "-c", SCRIPT, *flags]
    done = subprocess.run(command, env=kept | ours, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("flags", "note"),
    [((), "freed stayed with the process"), (("--return-memory",), "left to the C library")],
)
def test_the_page_says_what_became_of_freed_memory(flags, note):
    found = setting(*flags, JAX_PLATFORMS="cpu")
    assert note in found["notes"][-1]
    assert (found["gpu"], found["dtype"], found["devices"]) == (False, "float32", 2)


def test_with_a_plugin_for_an_accelerator_it_starts_all_the_same(tmp_path):
    """Number of devices and memory are settled before JAX looks what there is."""
    described = tmp_path / "accelerator-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: accelerator\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text("[jax_plugins]\naccelerator = accelerator\n")
    (tmp_path / "accelerator.py").write_text("def initialize():\n    pass\n")
    found = setting(PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}")
    assert found["devices"] == 2
    assert "left to the C library" in found["notes"][-1]
