"""Ten steps of gradient descent on one batch, from the weights of a recorded case.

Ten steps multiply rounding by a thousand. PyTorch's running statistics in single precision, and so
the recorded ones, are 5e-4 off PyTorch's in double precision, from the same weights: more than the
1e-4 asked of ours. So ours are held to PyTorch's in double precision as well.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from aff_jax import BatchNorm
from aff_jax.convert import from_torch, to_torch
from aff_jax.hosts.resnet import ResNet
from tests.aff_jax.convert.golden import Case, draw
from tests.reference import torch_aff

RATE, MOMENTUM, DECAY = 0.02, 0.9, 1e-4

pytestmark = [pytest.mark.slow, pytest.mark.optimised]


@pytest.fixture(scope="module")
def recorded():
    return Case("train_resnet10_aff")


@pytest.fixture(scope="module")
def exact(recorded):
    """Losses and state of PyTorch in double precision."""
    network = torch_aff.ResNet(
        torch_aff.basic_block, (1, 1, 1, 1), "AFF", num_classes=10, small_input=True
    ).double()
    network.load_state_dict({k: torch.from_numpy(v) for k, v in recorded.weights.items()})
    optimizer = torch.optim.SGD(
        network.parameters(), RATE, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY
    )
    image = torch.from_numpy(draw(**recorded.meta["input"])).double()
    labels, losses = torch.from_numpy(recorded["labels"]), []
    for _ in range(10):
        loss = torch.nn.functional.cross_entropy(network(image), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, {name: value.numpy() for name, value in network.state_dict().items()}


def ours(recorded, dtype):
    """Losses, logits after the last step, and the state by PyTorch's names."""
    model = ResNet(
        num_classes=10,
        block="basic",
        blocks_per_stage=(1, 1, 1, 1),
        fusion_fields={"gain": 2.0},
        small_input=True,
        norm=lambda **fields: BatchNorm(unbiased_variance=True, **fields),
        param_dtype=dtype,
    )
    variables = from_torch(recorded.weights, model)
    image = jnp.asarray(recorded.image, dtype)
    optimizer = optax.chain(
        optax.add_decayed_weights(DECAY), optax.sgd(RATE, momentum=MOMENTUM, nesterov=True)
    )

    @jax.jit
    def step(params, batch_stats, opt_state):
        def loss(params):
            changed = {"params": params, "batch_stats": batch_stats}
            logits, new = model.apply(changed, image, train=True, mutable=["batch_stats"])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, recorded["labels"])
            return jnp.mean(losses), new["batch_stats"]

        (value, new), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return value, optax.apply_updates(params, updates), new, opt_state

    params, batch_stats = variables["params"], variables["batch_stats"]
    opt_state, losses = optimizer.init(params), []
    for _ in range(10):
        value, params, batch_stats, opt_state = step(params, batch_stats, opt_state)
        losses.append(float(value))
    trained = {"params": params, "batch_stats": batch_stats}
    return losses, jax.jit(model.apply)(trained, image), to_torch(trained, model)


def statistics(state):
    return {name: value for name, value in state.items() if "running" in name}


def test_in_single_precision(recorded, exact):
    losses, logits, state = ours(recorded, jnp.float32)
    np.testing.assert_allclose(losses, recorded["losses"], rtol=0, atol=1e-4)
    largest = np.abs(recorded["logits_after"]).max()
    np.testing.assert_allclose(logits, recorded["logits_after"], rtol=0, atol=1e-3 * largest)
    for name, value in statistics(exact[1]).items():
        np.testing.assert_allclose(state[name], value, rtol=0, atol=1e-4, err_msg=name)
    for name, value in statistics(recorded.starting_with("after/")).items():
        own_rounding = np.abs(value - exact[1][name])
        assert np.all(np.abs(state[name] - value) <= 1e-4 + own_rounding), name


def test_in_double_precision(recorded, exact):
    with jax.enable_x64(True):
        losses, _, state = ours(recorded, jnp.float64)
    np.testing.assert_allclose(losses, exact[0], rtol=1e-12)
    for name, value in exact[1].items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_allclose(state[name], value, rtol=0, atol=1e-12, err_msg=name)
