"""The command as a user gives it, in processes of its own: killed, started again, mistyped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import chex
import pytest

from configs import digits
from train.checkpoint import Checkpoints
from train.run import prepare

ROOT = Path(__file__).parent.parent.parent
# 29 steps of 50 examples an epoch: evaluation and checkpoint every 9 steps, so in mid-epoch.
SHORT = (
    "--config.fusion=add",
    "--config.batch_size=50",
    "--config.epochs=1.5",
    "--config.eval_every_epochs=0.3",
    "--config.log_every_steps=1",
)
STEPS = 43


@pytest.fixture
def command(digits_dir, compilation_cache):
    """Starts `python -m train` on one device with those flags."""
    environment = {
        **os.environ,
        "XLA_FLAGS": "",
        "JAX_COMPILATION_CACHE_DIR": str(compilation_cache),
    }

    def start(*flags):
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "train",
                "--config=configs/digits.py",
                f"--config.data_dir={digits_dir}",
                *flags,
            ],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def finish(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def kill_at_step(process, workdir, step, kind="train"):
    """SIGKILL as soon as the run has told of that step; a checkpoint follows an evaluation."""
    metrics = workdir / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not metrics.exists() or f'"kind": "{kind}", "step": {step},' not in metrics.read_text():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.communicate()


@pytest.mark.slow
def test_killed_twice_and_started_again_it_ends_as_if_nothing_had_happened(
    command, digits_dir, tmp_path
):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    code, out, err = finish(command(f"--workdir={whole}", *SHORT))
    assert (code, err) == (0, "")
    assert "test accuracy" in out
    assert f"written to {whole}" in out

    kill_at_step(command(f"--workdir={cut}", *SHORT), cut, 14)  # between two checkpoints
    kill_at_step(command(f"--workdir={cut}", *SHORT), cut, 26, kind="eval")  # while saving one
    assert not (cut / "summary.json").exists()
    code, out, err = finish(command(f"--workdir={cut}", *SHORT))
    assert (code, err) == (0, "")
    assert "Going on from step" in out

    config = digits.get_config()
    config.data_dir, config.fusion = str(digits_dir), "add"
    one, other = (read_state(workdir, config) for workdir in (whole, cut))
    assert one.step == other.step == STEPS
    chex.assert_trees_all_equal(one.state, other.state)
    assert one.feed_state == other.feed_state
    told = [json.loads(line)["step"] for line in (cut / "metrics.jsonl").read_text().splitlines()]
    assert sorted(set(told)) == list(range(1, STEPS + 1))


def read_state(workdir, config):
    config.batch_size = 48  # the state is the same for any; eight devices can share this one
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        return checkpoints.restore(prepare(config).state)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.fuson=iaff"], "error: unknown config field 'fuson'. Did you mean 'fusion'"),
        (
            ["--config.model_fields.widht=2"],
            "field of model 'cifar_resnet8': 'widht'. Did you mean 'width'?",
        ),
        (["--config.batch_size=many"], "error: flag --config.batch_size=many: invalid literal"),
        (["--config.fusion=iaf"], "error: unknown fusion 'iaf'. Did you mean 'iaff' or 'aff'?"),
        (["--workdirr=x"], "error: Unknown command line flag 'workdirr'. Did you mean: workdir"),
        (["configs/digits.py"], "error: expected flags only, got 'configs/digits.py'."),
    ],
)
def test_a_mistake_is_told_in_one_line(command, tmp_path, flags, message):
    code, out, err = finish(command(f"--workdir={tmp_path / 'run'}", *flags))
    assert code == 1
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""
    assert not (tmp_path / "run").exists()


def test_a_config_that_is_not_there_is_named():
    process = subprocess.run(
        [sys.executable, "-m", "train", "--config=configs/nothing.py", "--workdir=runs/nothing"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert "configs/nothing.py" in process.stderr
    assert "Traceback" not in process.stderr
