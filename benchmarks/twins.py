"""PyTorch's network and ours take the same training step, in double precision.

In single precision deep networks with IAFF part in PyTorch itself, from one memory layout to the
other, so that a comparison there says little. In double precision rounding is far below any
mistake: logits, loss, every gradient and every new running statistic are compared.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import traverse_util
from torch.nn import functional

from aff_jax.convert import from_torch
from benchmarks.timing import check_equal

__all__ = ["TOLERANCE", "check_step"]

TOLERANCE = 1e-6
"""Allowed difference, as a share of the largest logit, loss, gradient or statistic of the network.

Measured: 1e-13 with 8 layers, 4e-13 with 50 and addition, and 1e-7 with 50 and IAFF, where norms of
the mean over all positions see no more values than there are images.
"""


def check_step(
    network: torch.nn.Module, model: nn.Module, images: np.ndarray, labels: np.ndarray
) -> float:
    """How far the first step of the two is apart, from the weights of `network`.

    `images` are (batch, height, width, channels), `labels` (batch,) integers; `network` is left in
    double precision, with gradients and new statistics, on the CPU.

    Raises:
        ValueError: they are further apart than `TOLERANCE`; lists what is.
    """
    network = network.double().cpu().train()
    before = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    logits = network(torch.tensor(images, dtype=torch.float64).permute(0, 3, 1, 2))
    loss = functional.cross_entropy(logits, torch.tensor(labels))
    loss.backward()
    # What converts weights converts their gradients: it only renames and transposes.
    after = network.state_dict()
    for name, parameter in network.named_parameters():
        unread = parameter.grad is None
        after[name] = torch.zeros_like(parameter) if unread else parameter.grad
    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        model = model.clone(dtype=None, param_dtype=jnp.float64)
        theirs = from_torch({name: value.numpy() for name, value in after.items()}, model)
        ours = _step(model, from_torch(before, model), images, labels)
    sides = {
        "PyTorch": (logits.detach().numpy(), loss.item(), theirs["params"], theirs["batch_stats"]),
        "aff_jax": ours,
    }
    return check_equal(
        {name: _by_kind(*found) for name, found in sides.items()},
        TOLERANCE,
        f"a training step of {type(model).__name__} in float64",
    )


def _step(model: nn.Module, variables: Any, images: np.ndarray, labels: np.ndarray) -> Any:
    """Logits, loss, gradients and new statistics of ours."""

    @jax.jit
    def step(params: Any, stats: Any) -> Any:
        def loss_of(params: Any) -> Any:
            tree = {"params": params, "batch_stats": stats}
            logits, new = model.apply(
                tree, jnp.asarray(images, jnp.float64), train=True, mutable=["batch_stats"]
            )
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return jnp.mean(losses), (logits, new["batch_stats"])

        (loss, (logits, new)), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        return logits, loss, gradients, new

    return jax.device_get(step(variables["params"], variables["batch_stats"]))


def _by_kind(logits: Any, loss: Any, gradients: Any, statistics: Any) -> dict[str, np.ndarray]:
    """One array a kind: a bias in front of a norm has no gradient but rounding of its own."""

    def joined(tree: Any) -> np.ndarray:
        leaves = traverse_util.flatten_dict(tree)
        return np.concatenate([np.ravel(leaves[path]) for path in sorted(leaves)])

    return {
        "logits": np.asarray(logits),
        "loss": np.asarray(loss),
        "gradients": joined(gradients),
        "statistics": joined(statistics),
    }
