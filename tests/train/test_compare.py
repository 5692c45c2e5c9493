"""The command `python -m train.compare` in subprocesses."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_refuses_a_config_without_variants():
    process = subprocess.run(
        [sys.executable, "-m", "train.compare", "--config=configs/digits.py", "--workdir=runs/x"],
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 1
    message = "error: expected a config with `variants`, as in configs/compare_digits.py."
    assert process.stderr.strip() == message


@pytest.mark.slow
def test_trains_one_variant_and_prints_the_table(digits_dir, tmp_path):
    process = subprocess.run(
        [
            *(sys.executable, "-m", "train.compare", f"--workdir={tmp_path / 'scales'}"),
            "--config=configs/compare_scales.py:inception8",
            f"--config.data_dir={digits_dir}",
            *("--config.epochs=0.2", "--config.warmup_epochs=0.0", "--config.seeds=(3,)"),
            "--only=local+local",
        ],
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert "local+local, seed 3 (1 of 1)" in process.stdout
    table = (tmp_path / "scales" / "comparison.md").read_text()
    assert table in process.stdout
    assert len(table.splitlines()) == 3
    assert (tmp_path / "scales" / "local+local" / "seed3" / "summary.json").exists()
