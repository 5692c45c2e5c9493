"""Mistakes in flags and configs, and errors that end a command with one line or a traceback."""

import warnings

import pytest
from absl import flags

from configs import digits
from train import command_errors
from train.command_errors import (
    errors_in_one_line,
    exit_after_error,
    explain_config_error,
    explain_unknown_flag,
    warnings_in_one_line,
)
from train.data.feed_timeout import FeedError
from train.reporting.step_metrics import NonFiniteError
from train.runtime import distributed


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


def test_a_missing_flag_is_named_with_its_help(monkeypatch):
    known = flags.FlagValues()
    monkeypatch.setattr(flags, "FLAGS", known)
    flags.DEFINE_string("workdir", None, "Directory of the run.", known, required=True)
    with pytest.raises(flags.IllegalFlagValueError) as error:
        known(["train"])
    assert explain_config_error(error.value) == "--workdir is missing. Directory of the run."


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
    monkeypatch.setattr(command_errors.flags, "FLAGS", known)
    message = explain_unknown_flag(flags.UnrecognizedFlagError(name))
    assert message.startswith(f"Unknown command line flag {name!r}.")
    assert suggestion in message


@pytest.fixture
def exits(monkeypatch):
    """Replace the immediate exit of the process, and list the arguments of its calls."""
    calls = []

    def exit_immediately(error, traceback=False):
        calls.append((str(error), traceback))
        raise SystemExit(1)

    monkeypatch.setattr(distributed, "exit_immediately", exit_immediately)
    return calls


@pytest.mark.parametrize("kind", [ValueError, TypeError, OSError, NonFiniteError])
def test_expected_errors_are_reported_in_one_line(kind, exits):
    with pytest.raises(SystemExit, match="error: wrong"), errors_in_one_line():
        raise kind("wrong")
    with pytest.raises(kind, match="wrong"), errors_in_one_line(traceback=True):
        raise kind("wrong")
    assert not exits


def test_the_notes_of_an_error_are_printed_below_it():
    error = OSError("no space")
    error.add_note("Set --config.data_dir to another directory.")
    with pytest.raises(SystemExit, match=r"^error: no space\nSet --config.data_dir to another"):
        exit_after_error(error)


def test_other_errors_are_not_caught():
    with pytest.raises(KeyError), errors_in_one_line():
        raise KeyError("missing")


def test_no_error_is_no_exit():
    with errors_in_one_line():
        pass


def test_one_of_several_processes_exits_immediately(exits):
    for error in (ValueError("wrong"), KeyError("missing")):
        with pytest.raises(SystemExit), errors_in_one_line(several_processes=True):
            raise error
    assert exits == [("wrong", False), ("'missing'", True)]


def test_a_feed_that_hangs_exits_immediately(exits):
    with pytest.raises(SystemExit):
        exit_after_error(FeedError("no batch"))
    assert exits == [("no batch", False)]


def test_warnings_for_users_have_no_line_of_code():
    original = warnings.formatwarning
    with warnings_in_one_line():
        assert warnings.formatwarning("no mask", UserWarning, "a.py", 3) == "warning: no mask\n"
        assert "a.py:3: " in warnings.formatwarning("old", DeprecationWarning, "a.py", 3)
    assert warnings.formatwarning is original
