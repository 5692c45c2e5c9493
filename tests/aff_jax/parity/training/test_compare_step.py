"""Training steps of equal networks, wrong inputs, and ResNet-18 with iAFF."""

import functools
import re

import jax
import numpy as np
import optax
import pytest
import torch

import aff_jax
from aff_jax import parity
from tests.aff_jax.parity.training.networks import IMAGES, Small, TorchSmall, compare, loss, sgd
from tests.reference import torch_aff


def adamw(parameters):
    return torch.optim.AdamW(parameters, 1e-2, weight_decay=0.1)


OPTIMIZERS = {
    "sgd": (optax.sgd(0.1, momentum=0.9), sgd),
    "nesterov": (
        optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.1, 0.9, nesterov=True)),
        functools.partial(sgd, nesterov=True, weight_decay=0.1),
    ),
    "adamw": (optax.adamw(1e-2, weight_decay=0.1), adamw),
}


@pytest.mark.parametrize("float64", [True, False])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equal_training(name, float64):
    optimizer, torch_optimizer = OPTIMIZERS[name]
    outcome = compare(optimizer=optimizer, torch_optimizer=torch_optimizer, float64=float64)
    assert outcome.equal, outcome.to_text()
    assert outcome.explanation == ""
    assert outcome.first_mismatch is None
    found = {(row.step, row.kind, row.name) for row in outcome.rows}
    moment = "exp_avg_sq" if name == "adamw" else "momentum_buffer"
    for step in (1, 2, 3):
        assert {
            (step, "loss", ""),
            (step, "gradient", "conv.weight"),
            (step, "statistic", "bn.running_var"),
            (step, "moment", f"fc.bias.{moment}"),
            (step, "weight", "fc.weight"),
        } <= found
    assert "conv.bias" in " ".join(outcome.notes)  # zero by construction
    text = outcome.to_text()
    assert "Equal: 3 steps in float" in text
    assert outcome.largest("loss").max_rel < (1e-14 if float64 else 1e-5)


def test_the_modules_are_not_changed():
    network = TorchSmall().eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    compare(network, steps=1)
    assert not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_names_are_mapped_and_wrappers_removed():
    wrapped = torch.nn.DataParallel(torch.nn.ModuleDict({"net": TorchSmall()})["net"])
    assert compare(wrapped, steps=1).equal

    class Outer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.DataParallel(TorchSmall())

        def forward(self, x):
            return self.net(x)

    without_net = re.compile(r"^net\.")
    for rename in ({"net": ""}, {without_net: ""}, lambda name: without_net.sub("", name)):
        outcome = compare(Outer(), rename=rename, steps=1)
        assert outcome.equal
        assert outcome.rows[1].name == "net.conv.weight"
    with pytest.raises(ValueError, match="missing"):
        compare(Outer(), steps=1)


def test_torch_inputs_may_differ():
    class Last(TorchSmall):
        def forward(self, x):
            return super().forward(x.movedim(-1, 1))

    # The channels-first images do not fit, so they are passed on unchanged.
    assert compare(Last(), steps=1).equal
    first = np.moveaxis(IMAGES, -1, 1)
    assert compare(TorchSmall(), steps=1, torch_inputs=(first,)).equal

    class Broken(TorchSmall):
        def forward(self, x):
            raise IndexError("its own message")

    with pytest.raises(
        ValueError, match=r"(?s)\(6, 3, 5, 5\): .*\(6, 5, 5, 3\): .*its own message"
    ):
        compare(Broken())


def wrong_parameters(_parameters):
    return sgd(TorchSmall().parameters())


def per_example(logits):
    return torch.nn.functional.cross_entropy(logits, torch.arange(6) % 5, reduction="none")


ERRORS = {
    "steps": ({"steps": 0}, ValueError, "expected at least 1 step, got steps=0"),
    "loss": ({"loss": lambda o: o.mean(1)}, ValueError, r"scalar array, got shape \(6,\)"),
    "torch_loss": ({"torch_loss": per_example}, ValueError, r"scalar tensor, got shape \(6,\)"),
    "optimizer": ({"optimizer": sgd}, TypeError, "expected `optimizer` to be an optax"),
    "no function": ({"torch_optimizer": 3}, TypeError, "function of the parameters"),
    "no optimizer": ({"torch_optimizer": lambda p: p}, TypeError, "got list"),
    "lbfgs": ({"torch_optimizer": torch.optim.LBFGS}, TypeError, "LBFGS"),
    "parameters": ({"torch_optimizer": wrong_parameters}, ValueError, "not in the copy"),
    "dropout": ({"module": Small(dropout=0.5)}, ValueError, "rate of each Dropout to 0"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_to_do(name):
    options, kind, message = ERRORS[name]
    with pytest.raises(kind, match=message):
        compare(**options)


def test_random_pytorch_modules_are_refused():
    class Named(TorchSmall):
        def __init__(self):
            super().__init__()
            self.drop = torch.nn.Dropout(0.5)

    with pytest.raises(ValueError, match=r"drop \(p=0\.5\)"):
        compare(Named())

    class Functional(TorchSmall):
        def forward(self, x):
            return torch.nn.functional.dropout(super().forward(x), 0.5, self.training)

    with pytest.raises(ValueError, match="probability of each dropout to 0"):
        compare(Functional())


def test_networks_without_a_common_name_are_refused():
    variables = Small().init(jax.random.key(0), IMAGES)
    linear = torch.nn.Sequential(torch.nn.Linear(3, 5))
    with pytest.raises(ValueError, match="the networks share no name"):
        parity.compare_step(
            linear,
            Small(),
            variables,
            IMAGES,
            loss=loss,
            torch_loss=torch.sum,
            optimizer=optax.sgd(0.1),
            torch_optimizer=sgd,
        )


RESNET = aff_jax.create_model(
    "resnet18", "iaff", "pytorch", num_classes=4, base_channels=8, small_input=True
)


def compare_resnet(module=RESNET, **options):
    torch.manual_seed(0)
    network = torch_aff.resnet(
        "resnet18", fuse_type="iAFF", num_classes=4, small_input=True, features=8
    )
    images = np.random.default_rng(1).standard_normal((8, 16, 16, 3))
    labels = np.arange(8) % 4

    def loss(logits):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def torch_loss(logits):
        return torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels))

    return compare(network, module, images, loss=loss, torch_loss=torch_loss, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_resnet18_with_iaff(name):
    optimizer, torch_optimizer = {
        "sgd": (optax.sgd(1e-3, momentum=0.9), lambda p: torch.optim.SGD(p, 1e-3, momentum=0.9)),
        "adamw": (optax.adamw(1e-5), lambda p: torch.optim.AdamW(p, 1e-5, weight_decay=1e-4)),
    }[name]
    outcome = compare_resnet(optimizer=optimizer, torch_optimizer=torch_optimizer)
    assert outcome.equal, outcome.to_text()
    # The second global branch is never read.
    assert any("global_att2" in n and "no gradient" in n for n in outcome.notes)
    # Adam's weights move by rounding errors of gradients that are zero by construction.
    limits = {"loss": 1e-9, "gradient": 1e-6, "statistic": 1e-7, "weight": 1e-5}
    for kind, limit in limits.items():
        assert outcome.largest(kind).max_rel < limit


@pytest.mark.slow
def test_mistakes_in_resnet18_with_iaff():
    model = RESNET.clone(norm=aff_jax.BatchNorm)
    outcome = compare_resnet(
        model,
        optimizer=optax.sgd(1e-3, momentum=0.8),
        torch_optimizer=lambda p: torch.optim.SGD(p, 1e-3, momentum=0.9),
    )
    assert "SGD with momentum=0.8, and PyTorch's optimizer has momentum=0.9" in outcome.explanation
    assert "JAX keeps the biased variance" in outcome.explanation
    assert outcome.first_mismatch.name.endswith("running_var")


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize(
    "norm", [torch.nn.utils.weight_norm, torch.nn.utils.parametrizations.weight_norm]
)
def test_weights_under_weight_norm_are_compared_as_plain_weights(norm):
    network = TorchSmall()
    network.fc = norm(network.fc)
    result = compare(network)
    assert result.first_mismatch is None
    assert ("moment", "fc.weight.momentum_buffer") in {(row.kind, row.name) for row in result.rows}
    assert not result.equal
    assert "as weight_norm does from g and v: fc.weight." in result.to_text()
    assert result.folded == ["fc.weight"]
