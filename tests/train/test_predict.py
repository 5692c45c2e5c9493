"""The command `python -m train.predict`: its arguments, its status, and its errors."""

from types import SimpleNamespace

import pytest
from PIL import Image

from tests.aff_jax.prediction.networks import ChannelScores, color_task
from train import predict, saved_run
from train.runtime import compilation_cache


@pytest.fixture
def options(monkeypatch, tmp_path):
    """Replace the flags of the command and the network, and disable its global settings."""
    options = SimpleNamespace(
        workdir=tmp_path / "run",
        step="best",
        data_dir=None,
        images=tmp_path / "photos",
        output=tmp_path / "out",
        overwrite=False,
        batch_size=2,
    )
    monkeypatch.setattr(predict, "flags", SimpleNamespace(FLAGS=options))
    monkeypatch.setattr(compilation_cache, "enable_compilation_cache", lambda directory: None)
    options.images.mkdir()
    Image.new("RGB", (6, 4), "lime").save(options.images / "a.png")
    return options


@pytest.fixture
def network(monkeypatch):
    task, model = color_task("classification"), ChannelScores(per_pixel=False)
    found = SimpleNamespace(model=model, variables={}, image_task=task, step=12)
    monkeypatch.setattr(saved_run, "restore_network", lambda *arguments, **fields: found)


@pytest.mark.usefixtures("network")
def test_writes_the_predictions(options, capsys):
    with pytest.raises(SystemExit) as exit_status:
        predict.main()
    assert exit_status.value.code == 0
    assert "a.png,green," in (options.output / "predictions.csv").read_text()
    assert "run, step 12" in (options.output / "predictions.json").read_text()
    assert f"1 of 1 images to {options.output}" in capsys.readouterr().out


@pytest.mark.usefixtures("network")
def test_unreadable_images_are_status_1(options, capsys):
    (options.images / "b.jpg").write_bytes(b"")
    with pytest.raises(SystemExit) as exit_status:
        predict.main()
    assert exit_status.value.code == 1
    assert f"skipped: cannot read {options.images / 'b.jpg'}" in capsys.readouterr().err


@pytest.mark.usefixtures("network")
def test_an_empty_batch_is_refused(options):
    options.batch_size = 0
    with pytest.raises(SystemExit, match=r"^error: expected a batch size of at least 1, got 0"):
        predict.main()


@pytest.mark.usefixtures("options")
def test_a_missing_run_is_reported_in_one_line():
    with pytest.raises(SystemExit, match=r"^error: expected the --workdir of a run"):
        predict.main()
