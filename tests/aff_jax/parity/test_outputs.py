"""Outputs are paired by key, and their transposition is seen though axes have equal sizes."""

from collections import OrderedDict, namedtuple

import flax.linen as nn
import numpy as np
import pytest
import torch

from aff_jax.parity import compare
from tests.aff_jax.convert.states import images

Heads = namedtuple("Heads", ["scores", "boxes"])


class TorchHeads(torch.nn.Module):
    def __init__(self, make):
        super().__init__()
        self.a, self.b = torch.nn.Linear(6, 4), torch.nn.Linear(6, 4)
        self.make = make

    def forward(self, x):
        return self.make(self.a(x), self.b(x))


class TwoHeads(nn.Module):
    make: object

    @nn.compact
    def __call__(self, x):
        return self.make(nn.Dense(4, name="a")(x), nn.Dense(4, name="b")(x))


PAIRS = {
    "order of keys": (
        lambda a, b: OrderedDict(scores=a, boxes=b),
        lambda a, b: {"boxes": b, "scores": a},
    ),
    "names of fields": (Heads, lambda a, b: {"boxes": b, "scores": a}),
    "nested": (
        lambda a, b: {"z": [a, b], "k": b},
        lambda a, b: OrderedDict(k=b, z=(a, b)),
    ),
    "a dict for a tuple": (lambda a, b: {"scores": a, "boxes": b}, lambda a, b: (a, b)),
    "a tuple for a dict": (lambda a, b: (a, b), lambda a, b: {"scores": a, "boxes": b}),
    "other keys": (lambda a, b: {"x": a, "y": b}, lambda a, b: {"scores": a, "boxes": b}),
}


@pytest.mark.parametrize("name", PAIRS)
def test_right_outputs_are_equal(name):
    torch_make, make = PAIRS[name]
    result = compare(TorchHeads(torch_make), TwoHeads(make), None, images(3, 6))
    assert result.equal, result.to_text()


def test_a_key_of_one_side_only_is_named_and_others_are_compared_by_key():
    torch_module = TorchHeads(lambda a, b: {"b": b, "c": a})
    module = TwoHeads(lambda a, b: {"a": a, "b": b})
    result = compare(torch_module, module, None, images(3, 6))
    assert result.first_mismatch.path == "[a]"
    assert [row.path for row in result.rows if not row.differs][-1] == "[b]"
    assert "the output [c] (PyTorch)" in result.unmatched
    swapped = compare(
        TorchHeads(lambda a, b: {"a": a, "b": b}),
        TwoHeads(lambda a, b: {"a": b, "b": a}),
        None,
        images(3, 6),
    )
    assert swapped.first_mismatch.path == "[a]"


class TorchScores(torch.nn.Module):
    """Attention scores of tokens, whose axes have equal sizes; images if `conv`."""

    def __init__(self, transposes=False):
        super().__init__()
        self.a, self.b = torch.nn.Linear(6, 4), torch.nn.Linear(6, 4)
        self.transposes = transposes

    def forward(self, x):
        scores = self.a(x) @ self.b(x).mT
        return scores.mT if self.transposes else scores


class Scores(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(4, name="a")(x) @ nn.Dense(4, name="b")(x).swapaxes(1, 2)


@pytest.mark.parametrize("size", [(2, 5, 6), (5, 5, 6)])
def test_a_transposed_output_is_no_layout(size):
    assert compare(TorchScores(), Scores(), None, images(*size)).equal
    result = compare(TorchScores(transposes=True), Scores(), None, images(*size))
    assert result.first_mismatch.path == ""
    assert "axes 1 and 2 in another order" in result.explanation


def test_a_layout_that_was_chosen_by_value_is_named():
    conv = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1))

    class Ours(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Conv(4, (1, 1), name="0")(x)

    result = compare(conv, Ours(), None, images(2, 4, 4, 3))
    assert result.equal
    assert result.rows[-1].layout == "channels first, by value"
    assert "compare with other sizes to rule out a transposition" in result.to_text()
    assert "other sizes" not in compare(conv, Ours(), None, images(2, 4, 5, 3)).to_text()
    assert np.prod(result.rows[-1].shape) == 2 * 4 * 4 * 4
