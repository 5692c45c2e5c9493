"""The command `python -m train.evaluate`: its arguments, its output, and its errors."""

from types import SimpleNamespace

import pytest

from train import evaluate, saved_evaluation
from train.runtime import compilation_cache
from train.saved_evaluation import EvaluationResult


@pytest.fixture
def options(monkeypatch, tmp_path):
    """Replace the flags of the command, and disable its global settings."""
    options = SimpleNamespace(
        workdir=tmp_path, step="best", split="", data_dir=None, original_size=False
    )
    monkeypatch.setattr(evaluate, "flags", SimpleNamespace(FLAGS=options))
    monkeypatch.setattr(compilation_cache, "enable_compilation_cache", lambda directory: None)
    return options


def test_prints_the_metrics_of_the_checkpoint(options, monkeypatch, tmp_path, capsys):
    def evaluate_checkpoint(workdir, step, *, split, data_dir, original_size):
        assert (workdir, step, split, data_dir) == (tmp_path, "12", "train", "tfds")
        assert not original_size
        scores = {"cat": {"recall": 0.25, "labels": 4}, "dog": {"recall": None, "labels": 0}}
        return EvaluationResult(12, {"accuracy": 0.5, "loss": 0.25}, scores)

    monkeypatch.setattr(saved_evaluation, "evaluate_checkpoint", evaluate_checkpoint)
    options.step, options.split, options.data_dir = "12", "train", "tfds"
    evaluate.main()
    assert capsys.readouterr().out.splitlines() == [
        "step 12: accuracy 50.00%, loss 0.2500",
        "class    recall    labels",
        "cat      25.00%         4",
        "dog           -         0",
    ]


def test_says_which_labels_were_not_counted(options, monkeypatch, capsys):
    def evaluate_checkpoint(*arguments, original_size, **options):
        assert original_size
        scores = {"cat": {"iou": 0.5, "labels": 4}}
        return EvaluationResult(12, {"mean_iou": 0.5, "cropped": 0.125}, scores)

    monkeypatch.setattr(saved_evaluation, "evaluate_checkpoint", evaluate_checkpoint)
    options.original_size = True
    evaluate.main()
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == "step 12: mean IoU 50.00%"
    assert second.startswith("12.5% of the labels are not counted")


@pytest.mark.usefixtures("options")
def test_a_missing_run_is_reported_in_one_line():
    with pytest.raises(SystemExit, match=r"^error: expected the --workdir of a run"):
        evaluate.main()
