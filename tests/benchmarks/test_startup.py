"""Tests of `benchmarks.startup`: the time of a process, the caches, and a run of the script."""

import pytest

from benchmarks import startup
from benchmarks.startup import seconds_of, step_turns
from tests.benchmarks.running import run


def test_the_time_includes_the_start_of_the_process_and_its_code():
    alone, sleeping = seconds_of("pass"), seconds_of("import time; time.sleep(0.5)")
    assert alone > 0
    assert sleeping >= 0.5


def test_a_process_that_fails_raises_with_its_traceback():
    with pytest.raises(RuntimeError, match=r"raise ValueError\('no'\)(.|\n)*ValueError: no"):
        seconds_of("raise ValueError('no')")


def test_an_empty_cache_is_cleared_and_a_filled_one_kept(tmp_path, monkeypatch):
    def fill(code, cache):
        """Stand in for a process that compiles; return the number of programs it found."""
        found = len(list((tmp_path / "aff_jax").iterdir()))
        (tmp_path / "aff_jax" / str(found)).touch()
        assert cache == str(tmp_path / "aff_jax")
        return found

    monkeypatch.setattr(startup, "seconds_of", fill)
    turns = step_turns(tmp_path, ["aff_jax"])
    assert list(turns) == ["aff_jax, cache empty", "aff_jax, cache filled"]
    empty, filled = turns.values()
    assert [empty(), filled(), filled(), empty()] == [0, 1, 2, 0]


def test_pytorch_eager_has_no_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(startup, "seconds_of", lambda code, cache: (code, cache))
    (turn,) = step_turns(tmp_path, ["PyTorch"]).values()
    assert turn() == ("from benchmarks.startup import step_of_torch; step_of_torch('')", "")


@pytest.mark.slow
def test_the_script_runs(tmp_path):
    run("benchmarks.startup", output=tmp_path)
    assert "| digits, cache filled |" in (tmp_path / "startup.md").read_text()
    assert (tmp_path / "startup.png").exists()
