"""Test traces of steps."""

import pytest

from train import start
from train.runtime.profiling import Profile


@pytest.mark.slow
def test_writes_a_trace_of_the_steps(config, console, tmp_path):
    config.epochs = 2.0
    start.train(config, tmp_path / "run", console, Profile.parse("2:3"))
    (trace,) = (tmp_path / "run" / "profile").rglob("*.xplane.pb")
    assert trace.stat().st_size > 1000
    assert "A trace of the steps is in" in console.export_text()


@pytest.mark.parametrize("text", ["", "3", "0:2", "5:4", "a:b", "1:2:3"])
def test_invalid_steps_are_refused(text):
    with pytest.raises(ValueError, match="--profile=FIRST:LAST, two steps counted from 1"):
        Profile.parse(text)
