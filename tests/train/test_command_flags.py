"""Paths and config files in flags."""

import pytest

from train.command_flags import _PathParser, check_config_file


@pytest.mark.parametrize("text", ["~/runs/x", "~"])
def test_home_directory_in_flags(tmp_path, monkeypatch, text):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _PathParser().parse(text) == tmp_path / text[2:]
    assert str(_PathParser().parse("runs/~x")) == "runs/~x"


def test_urls_are_refused_before_they_become_directories():
    with pytest.raises(ValueError, match="expected a path, got a URL"):
        _PathParser().parse("gs://bucket/runs")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("configs/digit.py", r"unknown config file 'configs/digit\.py'\. Did you .*/digits\.py'"),
        ("digits", r"unknown config file 'digits'\. Did you mean 'configs/digits\.py'\? Known: "),
        ("configs/nothing.py:resnet50", r"unknown config file 'configs/nothing\.py'"),
        ("configs", "expected a config file as --config, got the directory configs"),
        ("README.md", r"expected a Python file with a function get_config\(\).*got README\.md"),
    ],
)
def test_a_config_file_that_cannot_be_used(value, message):
    for argv in (["train", f"--config={value}"], ["train", "--config", value]):
        with pytest.raises(ValueError, match=message):
            check_config_file(argv)


def test_outside_of_the_repository_the_reason_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"Start the command in the root of the repository\.$"):
        check_config_file(["train", "--config=configs/digits.py"])


def test_home_directory_of_a_config_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").touch()
    others = ["--config.epochs=~", "--workdir=~/run", "--config"]
    expanded = check_config_file(["train", "--config=~/mine.py:~", *others])
    assert expanded == ["train", f"--config={tmp_path}/mine.py:~", *others]
