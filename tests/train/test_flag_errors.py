"""Mistakes in flags: config files that can't be used, and unknown flags."""

import pytest
from absl import flags

from configs import digits
from train import flag_errors
from train.flag_errors import check_config_file, explain_config_error, explain_unknown_flag


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


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (AttributeError("module 'x' has no attribute 'get_config'"), "expected a function get_"),
        (TypeError("get_config() takes 0 positional arguments but 1 was given"), "no argument"),
        (ValueError("invalid literal\n"), "invalid literal"),
    ],
)
def test_errors_of_config_files(error, message):
    assert message in explain_config_error(error)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("cofnig.epochs", "Did you mean --config.epochs"),
        ("epochs", "Did you mean --config.epochs"),
        ("confg.momentum", "Did you mean --config.momentum"),
        ("workdirr", "Did you mean --workdir?"),
        ("zzz", "'zzz'. Fields of the config are --config.FIELD; configs/base.py has them all."),
    ],
)
def test_an_unknown_flag_names_the_closest_one(monkeypatch, name, suggestion):
    known = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "", flag_values=known)
    flags.DEFINE(flags.ArgumentParser(), "config", None, "", flag_values=known)
    known["config"].value = digits.get_config()
    monkeypatch.setattr(flag_errors.flags, "FLAGS", known)
    message = explain_unknown_flag(flags.UnrecognizedFlagError(name))
    assert message.startswith(f"Unknown command line flag {name!r}.")
    assert suggestion in message
