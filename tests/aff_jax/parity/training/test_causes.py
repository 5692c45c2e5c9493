"""Mistakes in training, and the sentences that name them."""

import functools

import flax.linen as nn
import jax
import optax
import pytest
import torch

from tests.aff_jax.parity.training.networks import Small, TorchSmall, compare, loss, sgd, torch_loss

pytestmark = pytest.mark.slow

ADAM = functools.partial(torch.optim.Adam, lr=1e-2)
DECAYED = functools.partial(torch.optim.Adam, lr=1e-2, weight_decay=0.1)
ADAMW = functools.partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.1)


def decayed(optimizer, mask=None):
    return optax.chain(optax.add_decayed_weights(0.1, mask), optimizer)


def matrices(params):
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def frozen_network():
    network = TorchSmall()
    network.conv.weight.requires_grad_(False)
    return network


def cumulative_network():
    network = TorchSmall()
    network.bn.momentum = None
    return network


def clipped(parameters):
    optimizer = sgd(parameters)
    optimizer.register_step_pre_hook(
        lambda *_: torch.nn.utils.clip_grad_norm_(parameters, 0.1) and None
    )
    return optimizer


FROZEN = optax.multi_transform(
    {"yes": optax.sgd(0.1, momentum=0.9), "no": optax.set_to_zero()},
    {"conv": "no", "bn": "yes", "fc": "yes"},
)

# Options of `compare`, the first row that differs, and what the explanation says.
MISTAKES = {
    "momentum": (
        {"optimizer": optax.sgd(0.1, momentum=0.8)},
        (2, "moment", "conv.weight.momentum_buffer"),
        "all 5 weights follow SGD with momentum=0.8, and PyTorch's optimizer has momentum=0.9",
    ),
    "no momentum": (
        {"optimizer": optax.sgd(0.1)},
        (2, "weight", "conv.weight"),
        "SGD with momentum=0, and",
    ),
    "learning rate": (
        {"optimizer": optax.sgd(0.2, momentum=0.9)},
        (1, "weight", "conv.weight"),
        "lr=0.2 (2 times as large), and PyTorch's optimizer has lr=0.1",
    ),
    "two settings": (
        {"optimizer": optax.sgd(0.05, momentum=0.8)},
        (1, "weight", "conv.weight"),
        "lr=0.05 (0.5 times as large), momentum=0.8",
    ),
    "sign": (
        {"torch_optimizer": functools.partial(sgd, maximize=True)},
        (1, "moment", "conv.weight.momentum_buffer"),
        "of the opposite sign",
    ),
    "schedule": (
        {"optimizer": optax.sgd(lambda step: 0.1 * 0.5**step, momentum=0.9)},
        (2, "weight", "conv.weight"),
        "a learning rate of 0.1, 0.05, 0.025 in each step",
    ),
    "Nesterov": (
        {"optimizer": optax.sgd(0.1, momentum=0.9, nesterov=True)},
        (1, "weight", "conv.weight"),
        "SGD with Nesterov's momentum, and PyTorch's optimizer has plain momentum",
    ),
    "dampening": (
        {"torch_optimizer": functools.partial(sgd, dampening=0.5)},
        (2, "moment", "conv.weight.momentum_buffer"),
        "dampening=0, and PyTorch's optimizer has dampening=0.5",
    ),
    "weight decay": (
        {"torch_optimizer": functools.partial(sgd, weight_decay=0.1)},
        (1, "moment", "conv.weight.momentum_buffer"),
        "weight_decay=0, and PyTorch's optimizer has weight_decay=0.1",
    ),
    "masked weight decay": (
        {
            "optimizer": decayed(optax.sgd(0.1, momentum=0.9), matrices),
            "torch_optimizer": functools.partial(sgd, weight_decay=0.1),
        },
        (1, "moment", "conv.bias.momentum_buffer"),
        "3 of 5 weights (bn.bias, bn.weight, fc.bias) follow SGD with weight_decay=0",
    ),
    "AdamW for L2": (
        {"optimizer": optax.adamw(1e-2, weight_decay=0.1), "torch_optimizer": DECAYED},
        (1, "moment", "conv.weight.exp_avg"),
        "decoupled weight decay (as in AdamW), and PyTorch's optimizer has weight decay added",
    ),
    "L2 for AdamW": (
        {"optimizer": decayed(optax.adam(1e-2)), "torch_optimizer": ADAMW},
        (1, "moment", "conv.weight.exp_avg"),
        "weight decay added to the gradient (L2, as in torch.optim.Adam), and PyTorch's optimizer "
        "has decoupled",
    ),
    "default weight decay": (
        {"optimizer": optax.adamw(1e-2), "torch_optimizer": ADAMW},
        (1, "weight", "conv.weight"),
        "weight_decay=0.0001, and PyTorch's optimizer has weight_decay=0.1",
    ),
    "beta1": (
        {"optimizer": optax.adam(1e-2, b1=0.8), "torch_optimizer": ADAM},
        (1, "moment", "conv.weight.exp_avg"),
        "beta1=0.8, and PyTorch's optimizer has beta1=0.9",
    ),
    "beta2": (
        {"optimizer": optax.adam(1e-2, b2=0.99), "torch_optimizer": ADAM},
        (1, "moment", "conv.weight.exp_avg_sq"),
        "beta2=0.99, and PyTorch's optimizer has beta2=0.999",
    ),
    "epsilon": (
        {"optimizer": optax.adam(1e-2, eps=1e-6), "torch_optimizer": ADAM},
        (1, "weight", "conv.weight"),
        "eps=1e-06, and PyTorch's optimizer has eps=1e-08",
    ),
    "epsilon inside": (
        {"optimizer": optax.adam(1e-2, eps=0, eps_root=1e-8), "torch_optimizer": ADAM},
        (1, "weight", "conv.weight"),
        "eps inside of the square root, and PyTorch's optimizer has eps outside",
    ),
    "RMSprop": (
        {
            "optimizer": optax.rmsprop(1e-2, decay=0.99),
            "torch_optimizer": functools.partial(torch.optim.RMSprop, lr=1e-2),
        },
        (1, "weight", "conv.weight"),
        "RMSprop with eps inside of the square root",
    ),
    "clipping": (
        {"optimizer": optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(0.1, 0.9))},
        (1, "moment", "conv.weight.momentum_buffer"),
        "gradients clipped to a norm of 0.1, and PyTorch's optimizer has no clipping",
    ),
    "clipping in PyTorch": (
        {"torch_optimizer": clipped},
        (1, "moment", "conv.weight.momentum_buffer"),
        "PyTorch's updates of all 5 weights follow SGD with gradients clipped to a norm of "
        "0.1, and its optimizer states no clipping",
    ),
    "clipping of values": (
        {"optimizer": optax.chain(optax.clip(0.01), optax.sgd(0.1, 0.9))},
        (1, "moment", "conv.weight.momentum_buffer"),
        "gradients clipped to absolute values of 0.01",
    ),
    "SGD for Adam": (
        {"optimizer": optax.sgd(1e-2, momentum=0.9), "torch_optimizer": ADAM},
        (1, "weight", "conv.weight"),
        "SGD with lr=0.01, momentum=0.9, and PyTorch's optimizer has Adam with lr=0.01",
    ),
    "order of scaling": (
        {"optimizer": optax.chain(optax.scale(-0.1), optax.trace(0.9))},
        (1, "moment", "conv.weight.momentum_buffer"),
        "All weights agree and only states of the optimizer differ",
    ),
    "frozen in JAX": (
        {"optimizer": FROZEN},
        (1, "weight", "conv.weight"),
        "JAX's optimizer does not update 1 of 5 weights (conv.weight)",
    ),
    "frozen in PyTorch": (
        {"network": frozen_network()},
        (1, "gradient", "conv.weight"),
        "they have requires_grad=False",
    ),
    "not in the optimizer": (
        {"torch_optimizer": lambda parameters: sgd(parameters[1:])},
        (1, "weight", "conv.weight"),
        "PyTorch's optimizer was not given 1 weights (conv.weight)",
    ),
    "momentum of the norm": (
        {"module": Small(momentum=0.1)},
        (1, "statistic", "bn.running_mean"),
        "momentum=0.1, which is momentum=0.9 in Flax. PyTorch's value was probably passed on",
    ),
    "default momentum of the norm": (
        {"module": Small(momentum=0.99)},
        (1, "statistic", "bn.running_mean"),
        "JAX computes 0.99 * old + 0.01 * batch",
    ),
    "biased variance": (
        {"module": Small(unbiased=False)},
        (1, "statistic", "bn.running_var"),
        "At bn, n = 150 and the factor is 1.00671",
    ),
    "cumulative average of the norm": (
        {"network": cumulative_network()},
        (1, "statistic", "bn.running_mean"),
        "PyTorch has momentum=None, which keeps the average of all batches so far, and JAX",
    ),
    "evaluation mode": (
        {"kwargs": {"train": False}},
        (1, "loss", ""),
        "JAX's running statistics do not change",
    ),
    "sum": (
        {"loss": lambda logits: 6 * loss(logits)},
        (1, "loss", ""),
        "6: the loss is summed in JAX and averaged on the other side",
    ),
    "sum in PyTorch": (
        {"torch_loss": functools.partial(torch_loss, reduction="sum")},
        (1, "loss", ""),
        "6: the loss is summed in PyTorch",
    ),
    "label smoothing": (
        {"torch_loss": functools.partial(torch_loss, label_smoothing=0.1)},
        (1, "loss", ""),
        "The loss functions or their targets differ",
    ),
    "stopped gradient": (
        {"module": Small(stopped=True)},
        (1, "gradient", "conv.weight"),
        "JAX's gradient of 3 of 5 weights (conv.weight, bn.weight, bn.bias) is zero",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name):
    options, first, sentence = MISTAKES[name]
    outcome = compare(**options)
    row = outcome.first_mismatch
    assert (row.step, row.kind, row.name) == first, outcome.to_text()
    assert sentence in outcome.explanation
    assert outcome.explanation in outcome.to_text()


@pytest.mark.parametrize("name", ["momentum", "AdamW for L2", "biased variance", "sum"])
def test_mistakes_are_named_in_float32(name):
    options, _, sentence = MISTAKES[name]
    assert sentence in compare(**options, float64=False).explanation


def test_a_frozen_weight_on_both_sides_is_equal():
    outcome = compare(
        frozen_network(),
        optimizer=optax.multi_transform(
            {"yes": optax.sgd(0.1, momentum=0.9), "no": optax.set_to_zero()},
            {"conv": {"kernel": "no", "bias": "yes"}, "bn": "yes", "fc": "yes"},
        ),
    )
    assert outcome.equal, outcome.to_text()
    notes = [row.note for row in outcome.rows if row.name == "conv.weight" and row.note]
    assert notes[0].startswith("no gradient in PyTorch, up to")


class Unread(TorchSmall):
    """A network with a weight that nothing reads."""

    def __init__(self):
        super().__init__()
        self.spare = torch.nn.Linear(3, 2, bias=False)


class SmallUnread(Small):
    """The same in linen."""

    @nn.compact
    def __call__(self, x, train=False):
        nn.Dense(2, use_bias=False, name="spare")(x)
        return super().__call__(x, train)


def test_weight_decay_of_weights_that_nothing_reads_is_named():
    optimizer, module = decayed(optax.sgd(0.1, momentum=0.9)), SmallUnread()
    torch_optimizer = functools.partial(sgd, weight_decay=0.1)
    outcome = compare(Unread(), module, optimizer=optimizer, torch_optimizer=torch_optimizer)
    assert outcome.first_mismatch.name == "spare.weight"
    assert outcome.first_mismatch.kind == "weight"
    assert "PyTorch's optimizer skips such weights, and optax decays them" in outcome.explanation
    equal = compare(Unread(), module)
    assert equal.equal
    notes = {row.note for row in equal.rows if row.name == "spare.weight"}
    assert "no gradient in PyTorch, zero in JAX" in notes
