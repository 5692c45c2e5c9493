"""Errors that end a command: one line for mistakes of the user, a traceback for other errors."""

import pytest

from train.command_line import errors_in_one_line, exit_after_error
from train.data.feed_timeout import FeedError
from train.reporting.step_metrics import NonFiniteError
from train.runtime import distributed


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
