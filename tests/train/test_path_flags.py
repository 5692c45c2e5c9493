"""Every path that a user gives may begin with the home directory."""

import pytest

from train.optim.pretrained import initialize_from
from train.path_flags import _PathParser


@pytest.mark.parametrize("text", ["~/runs/x", "~"])
def test_home_directory_in_flags(tmp_path, monkeypatch, text):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _PathParser().parse(text) == tmp_path / text[2:]
    assert str(_PathParser().parse("runs/~x")) == "runs/~x"


def test_urls_are_refused_before_they_become_directories():
    with pytest.raises(ValueError, match="expected a path, got a URL"):
        _PathParser().parse("gs://bucket/runs")


def test_home_directory_in_init_from(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "weights.safetensors")):
        initialize_from("~/weights.safetensors", {})
