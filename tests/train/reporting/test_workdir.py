"""Test workdirs with other configs, missing and broken files, and simultaneous starts."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict

from configs import base
from train.checkpoints.reading import checkpoint_steps
from train.reporting import workdir as workdir_module
from train.reporting.config_file import CONFIG_FILE, RESUMABLE_FIELDS
from train.reporting.workdir import (
    check_same_config,
    check_shared,
    claim_workdir,
)


def config(**changes: Any) -> ConfigDict:
    fields = ConfigDict(
        {
            "model": "cifar_resnet8",
            "batch_size": 128,
            "learning_rate": 0.1,
            "crop": (2, 2),
            "init_from": None,
            "model_fields": {"width": 4},
            "data_dir": "",
        }
    )
    for name, value in changes.items():
        fields[name] = value
    return fields


def test_new_workdir_gets_the_config_and_a_restart_finds_it(tmp_path: Path) -> None:
    directory = tmp_path / "runs" / "one"
    assert claim_workdir(directory, config()) is False
    text = (directory / CONFIG_FILE).read_text()
    assert json.loads(text) == config().to_dict() | {"crop": [2, 2]}
    assert text.splitlines()[1] == '  "batch_size": 128,'  # one field per line, sorted
    assert os.listdir(directory) == [CONFIG_FILE]
    assert claim_workdir(str(directory), config()) is True


def test_unreadable_checkpoints_are_not_missing_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that found none would start from the beginning."""
    (tmp_path / "checkpoints" / "12.damaged").mkdir(parents=True)
    for count in (False, True):
        assert checkpoint_steps(tmp_path / "checkpoints") == [12] * count
        (tmp_path / "checkpoints" / "12").mkdir(exist_ok=True)
    assert checkpoint_steps(tmp_path / "nothing") == []

    def forbid(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, forbid)
    with pytest.raises(PermissionError, match="checkpoints"):
        checkpoint_steps(tmp_path / "checkpoints")


def test_base_config_is_read_as_it_was_written(tmp_path: Path) -> None:
    claim_workdir(tmp_path, base.get_config())
    assert claim_workdir(tmp_path, base.get_config()) is True
    assert set(base.get_config()) >= RESUMABLE_FIELDS


def test_another_config_is_refused_with_all_differences(tmp_path: Path) -> None:
    claim_workdir(tmp_path, config())
    before = (tmp_path / CONFIG_FILE).read_bytes()
    other = config(batch_size=256, crop=(2, 3), seed=1, data_dir="/data")
    other.model_fields = ConfigDict({"depth": 8})
    with pytest.raises(ValueError, match="different config") as error:
        claim_workdir(tmp_path, other)
    message = str(error.value)
    assert [line for line in message.splitlines() if line.startswith("  ")] == [
        "  batch_size: 128 in the workdir, 256 now",
        "  crop: [2, 2] in the workdir, [2, 3] now",
        "  model_fields.depth: (no such field) in the workdir, 8 now",
        "  model_fields.width: 4 in the workdir, (no such field) now",
        "  seed: (no such field) in the workdir, 1 now",
    ]
    assert str(tmp_path) in message
    assert "--workdir" in message
    assert (tmp_path / CONFIG_FILE).read_bytes() == before


def test_resumable_fields_may_differ(tmp_path: Path) -> None:
    claim_workdir(tmp_path, config())
    changed = dict.fromkeys(RESUMABLE_FIELDS, "something else")
    assert claim_workdir(tmp_path, config(**changed)) is True


@pytest.mark.parametrize("text", ["", '{"batch_size": 12', "[1, 2]", "null", "\x00\x01"])
def test_broken_config_file_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / CONFIG_FILE).write_text(text)
    with pytest.raises(ValueError, match=f"{CONFIG_FILE} (is not readable JSON|has a)"):
        claim_workdir(tmp_path, config())
    assert (tmp_path / CONFIG_FILE).read_text() == text


def test_files_without_a_config_are_kept(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "metrics.jsonl").write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(
        ValueError, match=r"no config\.json but has checkpoints, metrics\.jsonl of a run"
    ):
        claim_workdir(tmp_path, config())
    assert sorted(os.listdir(tmp_path)) == ["checkpoints", "metrics.jsonl", "notes.txt"]


def test_other_files_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert claim_workdir(tmp_path, config()) is False
    assert claim_workdir(tmp_path, config()) is True


def test_workdir_must_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; expected a directory"):
        claim_workdir(tmp_path / "file", config())
    with pytest.raises(ValueError, match="is a URL; expected a directory"):
        claim_workdir("gs://bucket/run", config())


def test_failed_write_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(workdir_module.os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        claim_workdir(tmp_path, config())
    assert os.listdir(tmp_path) == []
    monkeypatch.undo()
    assert claim_workdir(tmp_path, config()) is False


def test_processes_with_other_configs_are_refused_with_all_differences(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_same_config(ConfigDict({"seed": 0, "fusion_fields": {}}))
    configs = [
        {"seed": 0, "model_fields": {"width": 4}, "data_dir": "/a", "log_every_steps": 50},
        {"seed": 1, "model_fields": {}, "data_dir": "/b", "log_every_steps": 50},
    ]
    monkeypatch.setattr(workdir_module, "gather_from_processes", lambda value: configs)
    with pytest.raises(ValueError) as error:
        check_same_config(ConfigDict(configs[0]))
    assert "  seed: 0, 1\n" in str(error.value)
    assert "  model_fields.width: 4, null\n" in str(error.value)
    assert "data_dir" not in str(error.value)
    assert "log_every_steps" not in str(error.value)


def test_workdir_that_is_not_shared_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_shared(tmp_path)
    assert list(tmp_path.iterdir()) == []
    # As in another process, to which the file of the primary process is not visible.
    monkeypatch.setattr(workdir_module, "is_primary_process", lambda: False)
    monkeypatch.setattr(workdir_module, "gather_from_processes", lambda value: [value, value])
    with pytest.raises(ValueError, match="is not the same directory for all processes: 0, 1"):
        check_shared(tmp_path)


CLAIM = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from ml_collections import ConfigDict
from train.reporting.workdir import claim_workdir
sys.stdin.readline()
claim_workdir(sys.argv[1], ConfigDict({{"batch_size": 128}}))
(Path(sys.argv[1]) / "checkpoints").mkdir(exist_ok=True)
"""


def test_processes_may_claim_a_workdir_at_the_same_time(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(tmp_path / "run")],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("start\n")
        process.stdin.flush()
    for process in processes:
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
    assert sorted(os.listdir(tmp_path / "run")) == ["checkpoints", CONFIG_FILE]
