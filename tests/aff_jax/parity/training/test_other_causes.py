"""Tied weights, rows of padding, and optimizers that cannot be judged."""

import flax.linen as nn
import numpy as np
import optax
import torch

from tests.aff_jax.parity.training.networks import Small, TorchSmall, compare


def test_optimizers_are_ruled_out_only_if_they_were_judged():
    class Counted(TorchSmall):
        """Other running statistics than JAX's, by no known convention, and nothing else."""

        def forward(self, x):
            with torch.no_grad():
                self.bn.running_mean.add_(1)
            return super().forward(x)

    outcome = compare(Counted(), steps=1)
    assert outcome.first_mismatch.name == "bn.running_mean"
    assert "The optimizers are ruled out: the recorded gradients give the" in outcome.explanation
    optimizer = {"optimizer": optax.sgd(0.0), "torch_optimizer": lambda p: torch.optim.Rprop(p, 0)}
    outcome = compare(Counted(), steps=1, **optimizer)
    assert outcome.first_mismatch.name == "bn.running_mean"
    assert "ruled out" not in outcome.explanation


class TorchTied(torch.nn.Module):
    """A language model whose output layer has the weights of its embedding."""

    def __init__(self, ties=True, padding=None):
        super().__init__()
        torch.manual_seed(0)
        self.wte = torch.nn.Embedding(5, 4, padding_idx=padding)
        self.head = torch.nn.Linear(4, 5, bias=False)
        if ties:
            self.head.weight = self.wte.weight

    def forward(self, tokens):
        return self.head(torch.tanh(self.wte(tokens)))


class Tied(nn.Module):
    ties: bool = True

    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(5, 4, name="wte")
        x = nn.tanh(embed(tokens))
        return embed.attend(x) if self.ties else nn.Dense(5, use_bias=False, name="head")(x)


TOKENS = np.array([0, 1, 2, 3, 4, 0])


def test_tied_weights_are_equal_and_untied_ones_are_named():
    outcome = compare(TorchTied(), Tied(), TOKENS)
    assert outcome.equal, outcome.to_text()
    outcome = compare(TorchTied(), Tied(ties=False), TOKENS)
    assert outcome.first_mismatch.kind == "gradient"
    assert "`wte.weight` and `head.weight` are one weight in PyTorch and 2" in outcome.explanation
    assert "was not given" not in outcome.explanation


def test_the_row_of_padding_is_named():
    outcome = compare(TorchTied(ties=False, padding=0), Tied(ties=False), TOKENS)
    assert outcome.first_mismatch.name == "wte.weight"
    assert "has padding_idx=0, so that row gets no gradient" in outcome.explanation


def test_independent_mistakes_are_named_together():
    module = Small(momentum=0.99, unbiased=False)
    outcome = compare(module=module, optimizer=optax.sgd(0.1, momentum=0.8))
    for part in ("JAX computes 0.99 * old", "n = 150", "SGD with momentum=0.8"):
        assert part in outcome.explanation
