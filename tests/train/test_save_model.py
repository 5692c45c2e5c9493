"""The command `python -m train.save_model`: its arguments, its output, and its errors."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from train import save_model as command
from train import saved_run
from train.runtime import compilation_cache


@pytest.fixture
def options(monkeypatch, tmp_path):
    """Replace the flags of the command, and disable its global settings."""
    options = SimpleNamespace(
        workdir=tmp_path, output=Path("a.safetensors"), step="last", data_dir=None, overwrite=True
    )
    monkeypatch.setattr(command, "flags", SimpleNamespace(FLAGS=options))
    monkeypatch.setattr(compilation_cache, "enable_compilation_cache", lambda directory: None)
    return options


@pytest.mark.usefixtures("options")
def test_prints_the_step_and_the_file(monkeypatch, tmp_path, capsys):
    def save_model(workdir, output, step, *, data_dir, overwrite):
        assert (workdir, output, step) == (tmp_path, Path("a.safetensors"), "last")
        assert (data_dir, overwrite) == (None, True)
        return 14

    monkeypatch.setattr(saved_run, "save_model", save_model)
    command.main()
    expected = (
        "wrote the weights of step 14 to a.safetensors; read them with aff_jax.load, or predict "
        "with: aff-jax predict a.safetensors IMAGES --output=FOLDER\n"
    )
    assert capsys.readouterr().out == expected


def test_a_wrong_step_is_reported_in_one_line(options):
    options.step = "newest"
    with pytest.raises(SystemExit, match=r"^error: expected --step=best, --step=last or"):
        command.main()
