"""Preparation of TFDS datasets: the commands in error messages, and the printed output."""

import pathlib
import shlex
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from train.data.sources.tfds_prepare import preparation_command, preparation_help, prepare_dataset


def builder(data_path: pathlib.Path, download_and_prepare: Callable[..., None]) -> Any:
    return SimpleNamespace(data_path=data_path, download_and_prepare=download_and_prepare)


def test_the_command_quotes_names_for_the_shell_and_for_python() -> None:
    lines = preparation_command("it's", '/data dir/a"b', "A note.").splitlines()
    program, option, code = shlex.split(lines[1])
    assert (program, option) == ("python", "-c")
    compile(code, "command", "exec")
    assert (
        """tfds.builder("it's", data_dir="/data dir/a\\"b", file_format="array_record")""" in code
    )
    assert lines[2].startswith("A note. Only this step needs TensorFlow.")


@pytest.mark.parametrize("manual", [None, "Get\n   a.zip."])
def test_instructions_have_the_manual_downloads(manual: str | None) -> None:
    dataset = SimpleNamespace(
        name="mine", data_dir_root="/data", MANUAL_DOWNLOAD_INSTRUCTIONS=manual
    )
    text = preparation_help(dataset)
    assert ("It downloads the dataset." in text) == (manual is None)
    manual_note = "/data/downloads/manual is the manual_dir. Get a.zip."
    assert (manual_note in text) == (manual is not None)


@pytest.mark.parametrize("quiet", [True, False])
def test_a_quiet_preparation_prints_nothing(
    quiet: bool, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def download_and_prepare(file_format: str) -> None:
        print(f"as {file_format}")
        print("progress", file=sys.stderr)

    prepare_dataset(builder(tmp_path, download_and_prepare), quiet)
    captured = capsys.readouterr()
    expected = ("", "") if quiet else ("as array_record\n", "progress\n")
    assert (captured.out, captured.err) == expected
