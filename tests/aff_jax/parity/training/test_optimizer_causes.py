"""Settings of optimizers that are named from samples of both sides."""

import numpy as np
import pytest

from aff_jax.parity.training.optimizer_causes import explain_optimizers, list_some
from aff_jax.parity.training.samples import Samples, Side

NAMES = ("fc.weight", "fc.bias")
GRADIENTS = {name: np.random.default_rng(i).standard_normal((3, 5)) for i, name in enumerate(NAMES)}


def make_side(rate=0.1, momentum=0.9, frozen=(), missing=()):
    """Return samples of three steps of SGD with momentum, computed in NumPy."""
    side = Side(norms=list(np.linalg.norm(np.concatenate([*GRADIENTS.values()], 1), axis=1)))
    for name, gradients in GRADIENTS.items():
        weights, trace = [np.ones(5)], 0.0
        for gradient in gradients:
            trace = momentum * trace + gradient
            weights.append(weights[-1] - (name not in frozen) * rate * trace)
        side.weights[name] = weights
        side.gradients[name] = [None if name in missing else g for g in gradients]
    return side


def explain(ours, theirs=None, optimizer_name="SGD", given=NAMES):
    settings = {name: {"lr": 0.1, "momentum": 0.9} for name in given}
    theirs = theirs or make_side()
    samples = Samples(theirs, ours, settings=settings, optimizer_name=optimizer_name)
    return " ".join(explain_optimizers(samples, "float64"))


def test_equal_optimizers_need_no_explanation():
    assert explain(make_side()) == ""


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"momentum": 0.8}, "JAX's updates of all 2 weights follow SGD with momentum=0.8"),
        ({"rate": 0.3}, "lr=0.3 (3 times as large), and PyTorch's optimizer has lr=0.1"),
        ({"rate": -0.1}, "of the opposite sign"),
        ({"frozen": ["fc.bias"]}, "does not update 1 of 2 weights (fc.bias)"),
    ],
)
def test_differences_are_named(options, text):
    assert text in explain(make_side(**options))


def test_pytorch_is_judged_by_its_own_settings():
    text = explain(make_side(), make_side(momentum=0.8))
    assert "PyTorch's updates of all 2 weights follow SGD with momentum=0.8" in text
    assert "its optimizer states momentum=0.9" in text


def test_weights_that_only_jax_updates_are_named():
    theirs = make_side(missing=["fc.bias"], frozen=["fc.bias"])
    assert "PyTorch has no gradient for 1 weights (fc.bias), and JAX has one" in explain(
        make_side(), theirs
    )
    theirs = make_side(frozen=["fc.bias"])
    text = explain(make_side(), theirs, given=["fc.weight"])
    assert text == "PyTorch's optimizer was not given 1 weights (fc.bias), and JAX updates them."


def test_unknown_rules_are_compared_by_their_first_updates():
    assert "JAX's updates are 2 times the updates of PyTorch's Lion" in explain(
        make_side(rate=0.2), optimizer_name="Lion"
    )
    assert "the decays of the moments of Lion differ" in explain(
        make_side(momentum=0.5), optimizer_name="Lion"
    )


def test_list_some():
    assert list_some(["a", "b"]) == "(a, b)"
    assert list_some(["a", "b"], 9) == "2 of 9 weights (a, b)"
    assert list_some(["a", "b"], 2) == "all 2 weights"
    assert list_some("abcd", 9) == "4 of 9 weights (a, b, c, ...)"
