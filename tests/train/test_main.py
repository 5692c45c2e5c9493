"""The command in subprocesses: killed and resumed, and with wrong flags."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from train.checkpoints.record import read_record

ROOT = Path(__file__).parent.parent.parent


def finish(process):
    out, err = process.communicate(timeout=600)
    return process.returncode, out, err


def kill_at_step(process, workdir, step, kind="train"):
    """Send SIGKILL as soon as the run has logged a step. A checkpoint follows an evaluation."""
    metrics = workdir / "metrics.jsonl"
    deadline = time.monotonic() + 600
    while not metrics.exists() or f'"kind": "{kind}", "step": {step},' not in metrics.read_text():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.communicate()


@pytest.mark.slow
def test_a_run_that_was_killed_twice_ends_as_an_undisturbed_run(
    command, short_run, undisturbed, tmp_path
):
    cut = tmp_path / "cut"
    kill_at_step(command(f"--workdir={cut}", *short_run), cut, 14)  # between two checkpoints
    # While saving a checkpoint.
    kill_at_step(command(f"--workdir={cut}", *short_run), cut, 26, kind="eval")
    assert not (cut / "summary.json").exists()
    code, out, err = finish(command(f"--workdir={cut}", *short_run))
    assert (code, err) == (0, "")
    assert "Resuming from step" in out

    # A record has the CRC-32 of every array and the position of the feed.
    one, other = (read_record(workdir / "checkpoints" / "43") for workdir in (undisturbed, cut))
    assert one == other
    logged = [json.loads(line)["step"] for line in (cut / "metrics.jsonl").read_text().splitlines()]
    assert sorted(set(logged)) == list(range(1, 44))


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
        (["--workdirr=x"], "error: Unknown command line flag 'workdirr'. Did you mean --workdir?"),
        (
            ["--workdir=gs://bucket/x"],
            "flag --workdir=gs://bucket/x: expected a path, got a URL",
        ),
        (["configs/digits.py"], "error: expected flags only, got 'configs/digits.py'."),
    ],
)
def test_a_mistake_is_reported_in_one_line(command, tmp_path, flags, message):
    code, out, err = finish(command(f"--workdir={tmp_path / 'run'}", *flags))
    assert code == 1
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("config.epoch = 3.0", r"c.py: unknown config field 'epoch'. Did you mean 'epochs'"),
        ("config.batch_size = '96'", "c.py, line 5: TypeError: Could not override field 'batch_si"),
    ],
)
def test_a_mistake_in_a_config_file_is_reported_in_one_line(tmp_path, line, message):
    text = "from configs import digits\n\ndef get_config():\n    config = digits.get_config()\n"
    (tmp_path / "c.py").write_text(f"{text}    {line}\n    return config\n")
    flags = f"--config={tmp_path / 'c.py'}", f"--workdir={tmp_path / 'run'}"
    ran = subprocess.run(
        [sys.executable, "-m", "train", *flags], cwd=ROOT, capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert message in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_missing_config_is_named():
    process = subprocess.run(
        [sys.executable, "-m", "train", "--config=configs/nothing.py", "--workdir=runs/nothing"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert process.stderr.startswith("error: unknown config file 'configs/nothing.py'. Did you")
    assert "Traceback" not in process.stderr
