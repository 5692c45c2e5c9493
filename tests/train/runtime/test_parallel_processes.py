"""Test that two processes with two devices each train like one process with four."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import traverse_util

from tests.train.runtime.one_process import train
from train.steps.parallel import PARALLEL


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path, compilation_cache):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    flags = "--xla_force_host_platform_device_count=2"
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.train.runtime.one_process", str(port), str(index), out],
            cwd=Path(__file__).parents[3],
            env={**os.environ, "XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index, out in enumerate((f"{tmp_path}/0", f"{tmp_path}/1"))
    ]
    try:
        with jax.enable_x64(True):
            state, statistics, loss = train("pmap")
        outputs = [process.communicate(timeout=600)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    expected = traverse_util.flatten_dict(
        {"params": state.params, "ema": state.ema, "recalibrated": statistics}, sep="/"
    )
    for name in PARALLEL:
        for index in range(2):
            with np.load(tmp_path / f"{index}_{name}.npz") as found:
                assert set(found) == {"loss", *expected}
                # In double precision: the processes add the same numbers in another order.
                assert found["loss"] == pytest.approx(loss, rel=1e-12)
                for key, value in expected.items():
                    np.testing.assert_allclose(found[key], value, rtol=1e-10, atol=1e-13)
