"""Runs that are refused before the first step: their configs, networks and workdirs."""

import subprocess
import sys

import pytest

from train import start
from train.reporting.workdir import claim_workdir


def test_a_workdir_in_use_is_refused(config, console, tmp_path, small_network):
    config.epochs = 1.5
    code = (
        "import fcntl, sys; file = open(sys.argv[1], 'a'); "
        "fcntl.flock(file, fcntl.LOCK_EX); print('locked', flush=True); sys.stdin.read()"
    )
    workdir = tmp_path / "run"
    claim_workdir(workdir, config)
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(workdir / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(ValueError, match="is in use: another process is training in it"):
            start.train(config, workdir, console)
    finally:
        other.kill()
        other.communicate()


def test_a_workdir_of_another_run_is_refused(config, console, tmp_path, small_network):
    config.epochs, config.warmup_epochs = 0.1, 0.0
    start.train(config, tmp_path / "run", console)
    before = {path: path.stat().st_mtime for path in (tmp_path / "run").rglob("*")}
    config.fusion = "aff"
    with pytest.raises(ValueError, match=r"fusion: \"add\" in the workdir, \"aff\" now"):
        start.train(config, tmp_path / "run", console)
    assert {path: path.stat().st_mtime for path in (tmp_path / "run").rglob("*")} == before


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batch_size", 100, "batch_size that the number of devices divides, got 100 for 8"),
        ("model", "cifar_resnet9", "unknown model 'cifar_resnet9'. Did you mean"),
        ("fusion", "iaf", "unknown fusion 'iaf'. Did you mean"),
        ("reference", "mxnett", "unknown reference 'mxnett'. Did you mean 'mxnet'"),
        ("schedule", "cosin", "unknown schedule 'cosin'. Did you mean 'cosine'"),
        ("optimizer", "adagrd", "unknown optimizer 'adagrd'. Did you mean 'adagrad'"),
        ("dataset", "digit", "unknown dataset 'digit'. Did you mean 'digits'"),
        ("accumulation", 3, "devices times accumulation divide, got 512 for 8 times 3"),
        ("parallel", "shardmap", "unknown parallel 'shardmap'. Did you mean 'shard_map'"),
        ("dtype", "float61", "unknown dtype 'float61'. Did you mean 'float16'"),
        ("label_key", "lable", "label key of 'digits': 'lable'. Did you mean 'label'"),
    ],
)
def test_an_impossible_value_is_refused_before_files_are_written(
    config, console, tmp_path, field, value, message
):
    config[field] = value
    with pytest.raises(ValueError) as error:
        start.train(config, tmp_path / "run", console)
    assert message in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_network_for_another_task_is_refused(scenes, console, tmp_path, monkeypatch):
    monkeypatch.undo()
    scenes.fusion = "add"
    with pytest.raises(ValueError, match=r"\(1, 64, 64, 11\), got \(1, 11\) from 'cifar_resnet8'"):
        start.train(scenes, tmp_path / "run", console)
    assert not (tmp_path / "run").exists()
