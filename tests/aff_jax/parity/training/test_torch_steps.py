"""Recorded steps of PyTorch, compared with a training loop."""

import numpy as np
import pytest
import torch

from aff_jax.parity.recording.torch_network import TorchNetwork
from aff_jax.parity.training.torch_steps import TorchTraining
from tests.aff_jax.parity.training.networks import IMAGES, TorchSmall, sgd, torch_loss


def make_training(network, images=IMAGES, torch_inputs=None, names=None, **options):
    names = names or [*dict(network.named_parameters()), "bn.running_mean", "bn.running_var"]
    images = np.float64(images)
    defaults = {"loss": torch_loss, "make_optimizer": sgd}
    return TorchTraining(
        TorchNetwork(network, "float64", None),
        [images],
        torch_inputs,
        names=names,
        **{**defaults, **options},
    )


def test_steps_are_those_of_a_training_loop():
    network = TorchSmall()
    training = make_training(network)
    twin = TorchSmall().double()
    twin.load_state_dict(network.state_dict())
    optimizer = sgd(twin.parameters())
    x = torch.from_numpy(np.float64(np.moveaxis(IMAGES, -1, 1).copy()))
    steps = training.run(2)
    before = next(steps)
    np.testing.assert_array_equal(before.weights["fc.weight"], network.fc.weight.detach().numpy())
    for step in steps:
        optimizer.zero_grad()
        seen = twin.conv(x).detach().movedim(1, 0).flatten(1)
        loss = torch_loss(twin(x))
        loss.backward()
        optimizer.step()
        assert step.loss == loss.item()
        for name, parameter in twin.named_parameters():
            np.testing.assert_array_equal(step.gradients[name], parameter.grad)
            np.testing.assert_array_equal(step.weights[name], parameter.detach())
            trace = optimizer.state[parameter]["momentum_buffer"]
            np.testing.assert_array_equal(step.optimizer_state[f"{name}.momentum_buffer"], trace)
        np.testing.assert_array_equal(step.statistics["bn.running_var"], twin.bn.running_var)
        ((mean, var, size),) = step.batch_moments["bn"]
        np.testing.assert_allclose(mean, seen.mean(1), rtol=1e-12)
        np.testing.assert_allclose(var, seen.var(1, correction=0), rtol=1e-12)
        assert size == 6 * 5 * 5
    assert training.optimizer_name == "SGD"
    assert training.settings["fc.bias"]["momentum"] == 0.9
    assert training.norm_momenta() == {"bn": 0.1}
    assert not any(p.grad is not None for p in network.parameters())


def test_runs_start_from_the_same_weights_or_neighbors():
    training = make_training(TorchSmall())
    first, again, perturbed = (
        next(training.run(1, perturbed=p)).weights for p in (False, False, True)
    )
    for name, array in first.items():
        np.testing.assert_array_equal(again[name], array)
        # One unit in the last place up or down.
        np.testing.assert_array_equal(
            np.abs(perturbed[name] - array) <= np.spacing(np.abs(array)), True
        )
        assert not np.any(perturbed[name] == array)


def test_only_named_arrays_are_recorded():
    (before,) = make_training(TorchSmall(), names=["fc.bias"]).run(0)
    assert before.weights.keys() == {"fc.bias"}
    assert not before.statistics


def test_layouts_are_tried_and_may_be_given():
    first = np.moveaxis(np.float64(IMAGES), -1, 1)
    np.testing.assert_array_equal(make_training(TorchSmall()).inputs[0], first)
    assert make_training(TorchSmall(), torch_inputs=[first]).inputs[0] is first

    class Tokens(TorchSmall):
        def forward(self, x):  # (batch, tokens, channels)
            return super().forward(x.movedim(-1, 1)[..., None])

    tokens = np.ones((6, 3, 3))
    tokens[:, 0] = 2
    # Three axes are tokens, as in `compare`, though both layouts have this shape.
    np.testing.assert_array_equal(make_training(Tokens(), tokens).inputs[0], tokens)


def test_a_module_that_works_in_place_gets_the_same_inputs_in_each_step():
    class InPlace(TorchSmall):
        def forward(self, x):
            return super().forward(x.mul_(2))

    training = make_training(InPlace())
    list(training.run(2))
    np.testing.assert_array_equal(training.inputs[0], np.moveaxis(IMAGES, -1, 1))


def test_random_modules_are_refused():
    noisy = TorchSmall()
    noisy.fc = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Dropout(0.5))
    with pytest.raises(ValueError, match=r"fc\.1 \(p=0\.5\)"):
        make_training(noisy)
