"""Ten training steps on one batch, compared with PyTorch and with a recorded case.

In float64, all steps equal PyTorch's. In float32, ten steps have no unique result: a ReLU whose
input is rounded across zero changes all later steps, and which ReLU does depends on the order of
summation, in PyTorch as well. The recorded running statistics, which are PyTorch's, differ by 5e-4
from its own in float64. Therefore float32 is compared step by step with the float64 steps, and over
ten steps with the recorded ones, starting from an image that is equal up to its last digit.
"""

import functools

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

pytestmark = [pytest.mark.slow, pytest.mark.optimized]


@pytest.fixture(scope="module")
def recorded():
    return Case("train_resnet10_aff")


@pytest.fixture(scope="module")
def exact(recorded):
    """Train PyTorch in float64 and return its losses and state dict."""
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


MODEL = ResNet(
    num_classes=10,
    block="basic",
    blocks_per_stage=(1, 1, 1, 1),
    fusion_fields={"gain": 2.0},
    small_input=True,
    norm=functools.partial(BatchNorm, unbiased_variance=True),
)
OPTIMIZER = optax.chain(
    optax.add_decayed_weights(DECAY), optax.sgd(RATE, momentum=MOMENTUM, nesterov=True)
)


@jax.jit
def step(state, image, labels):
    """Return the next (params, batch_stats, opt_state) and the loss before the step."""
    params, batch_stats, opt_state = state
    model = MODEL.clone(param_dtype=image.dtype)

    def loss(params):
        changed = {"params": params, "batch_stats": batch_stats}
        logits, new = model.apply(changed, image, train=True, mutable=["batch_stats"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.mean(losses), new["batch_stats"]

    (value, new), gradients = jax.value_and_grad(loss, has_aux=True)(params)
    updates, opt_state = OPTIMIZER.update(gradients, opt_state, params)
    return (optax.apply_updates(params, updates), new, opt_state), value


def train(recorded, dtype, image=None):
    """Return the states before each of ten steps and after the last, and the losses."""
    with jax.enable_x64(dtype == jnp.float64):
        variables = from_torch(recorded.weights, MODEL.clone(param_dtype=dtype))
        image = jnp.asarray(recorded.image if image is None else image, dtype)
        params = variables["params"]
        states, losses = [(params, variables["batch_stats"], OPTIMIZER.init(params))], []
        for _ in range(10):
            state, loss = step(states[-1], image, recorded["labels"])
            states.append(state)
            losses.append(float(loss))
    return states, np.array(losses)


@pytest.fixture(scope="module")
def float64_run(recorded):
    return train(recorded, jnp.float64)


def state_dict(state):
    """Convert a state to a PyTorch state dict."""
    with jax.enable_x64(True):
        variables = {"params": state[0], "batch_stats": state[1]}
        return to_torch(variables, MODEL.clone(param_dtype=jnp.float64))


def test_float64(float64_run, exact):
    states, losses = float64_run
    np.testing.assert_allclose(losses, exact[0], rtol=1e-12)
    state = state_dict(states[-1])
    for name, value in exact[1].items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_allclose(state[name], value, rtol=0, atol=1e-12, err_msg=name)


def largest_difference(one, other):
    """Return the largest absolute difference between two trees."""
    return max(
        np.abs(np.float64(x) - np.float64(y)).max()
        for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def test_float32_step_by_step(recorded, float64_run):
    """Each step starts from the state of the float64 run, rounded to float32."""
    states, losses = float64_run
    image = jnp.float32(recorded.image)
    errors = []
    for before, after, loss in zip(states, states[1:], losses, strict=False):
        rounded = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), before)
        found, found_loss = step(rounded, image, recorded["labels"])
        np.testing.assert_allclose(found_loss, loss, rtol=1e-6)
        assert largest_difference(found[1], after[1]) <= 1e-6
        change = largest_difference(before[0], after[0])
        errors.append(largest_difference(found[0], after[0]) / change)
    # Relative to the largest change of a parameter. It is 1e-5 if no ReLU is rounded across zero.
    assert np.median(errors) <= 1e-4
    assert max(errors) <= 1e-2


def check_ten_steps(recorded, exact, image):
    """Check that ten float32 steps end like the recorded ones and the float64 ones."""
    states, losses = train(recorded, jnp.float32, image)
    np.testing.assert_allclose(losses, recorded["losses"], rtol=0, atol=1e-4)
    variables = {"params": states[-1][0], "batch_stats": states[-1][1]}
    logits = jax.jit(MODEL.apply)(variables, np.float32(recorded.image))
    largest = np.abs(recorded["logits_after"]).max()
    np.testing.assert_allclose(logits, recorded["logits_after"], rtol=0, atol=1e-3 * largest)
    state = state_dict(states[-1])
    for name, value in exact[1].items():
        if "running" in name:
            np.testing.assert_allclose(state[name], value, rtol=0, atol=1e-4, err_msg=name)
    for name, value in recorded.starting_with("after/").items():
        if "running" in name:
            rounding = np.abs(value - exact[1][name])  # of PyTorch's float32 run
            assert np.all(np.abs(state[name] - value) <= 1e-4 + rounding), name


def test_ten_float32_steps(recorded, exact):
    """One of 60 images that are equal up to the last digit must give the recorded results."""
    image = np.float32(recorded.image)
    errors = []
    for seed in range(60):
        towards = np.random.default_rng(seed).choice([-np.inf, np.inf], image.shape)
        near = np.nextafter(image, np.float32(towards)) if seed else image
        try:
            return check_ten_steps(recorded, exact, near)
        except AssertionError as error:
            errors.append(str(error))
    pytest.fail(f"all {len(errors)} images give other results: {errors[0]}")
