"""The command `python -m train.evaluate_weights`: its output and its errors."""

from types import SimpleNamespace

import pytest

from train import evaluate_weights, saved_evaluation
from train.runtime import compilation_cache
from train.saved_evaluation import EvaluationResult


@pytest.fixture
def options(monkeypatch):
    """Replace the flags of the command, and disable its global settings."""
    options = SimpleNamespace(config="the config", weights="net.safetensors", split="")
    monkeypatch.setattr(evaluate_weights, "flags", SimpleNamespace(FLAGS=options))
    monkeypatch.setattr(compilation_cache, "enable_compilation_cache", lambda directory: None)
    return options


def test_prints_the_metrics_of_the_file(options, monkeypatch, capsys):
    def evaluate(config, weights, split):
        assert (config, weights, split) == ("the config", "net.safetensors", "train")
        scores = {"cat": {"recall": 0.25, "labels": 4}, "dog": {"recall": None, "labels": 0}}
        return EvaluationResult(0, {"accuracy": 0.5, "loss": 0.25}, scores)

    monkeypatch.setattr(saved_evaluation, "evaluate_weights", evaluate)
    options.split = "train"
    evaluate_weights.main()
    assert capsys.readouterr().out.splitlines() == [
        "net.safetensors: accuracy 50.00%, loss 0.2500",
        "class    recall    labels",
        "cat      25.00%         4",
        "dog           -         0",
    ]


@pytest.mark.usefixtures("options")
def test_an_error_is_one_line(monkeypatch):
    def evaluate(*arguments):
        raise ValueError("expected another file.")

    monkeypatch.setattr(saved_evaluation, "evaluate_weights", evaluate)
    with pytest.raises(SystemExit, match=r"^error: expected another file\.$"):
        evaluate_weights.main()
