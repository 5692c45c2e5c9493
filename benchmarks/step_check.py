"""Check that a training step of a PyTorch network and of a linen network are equal, in float64.

In float32, deep networks with IAFF differ even between PyTorch's two memory layouts. In float64,
rounding errors are far smaller than the effect of any mistake. Logits, loss, all gradients and all
new running statistics are compared.
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
"""Allowed difference, relative to the largest logit, loss, gradient or statistic of the network.

Measured: 1e-13 with 8 layers, 4e-13 with 50 layers and addition, and 1e-7 with 50 layers and IAFF,
whose norms of global means have only one value per image.
"""


def check_step(
    network: torch.nn.Module, model: nn.Module, images: np.ndarray, labels: np.ndarray
) -> float:
    """Check the first step from the weights of `network`.

    Args:
        network: The PyTorch network. The check moves it to the CPU and to float64, and leaves
            gradients and new statistics in it.
        model: The linen network.
        images: `(batch, height, width, channels)`.
        labels: `(batch,)`, integers.

    Returns:
        The largest relative difference.

    Raises:
        ValueError: If a difference exceeds `TOLERANCE`. The message lists all that do.
    """
    network = network.double().cpu().train()
    before = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    logits = network(torch.tensor(images, dtype=torch.float64).permute(0, 3, 1, 2))
    loss = functional.cross_entropy(logits, torch.tensor(labels))
    loss.backward()
    # Gradients are converted like weights: the conversion only renames and transposes.
    after = network.state_dict()
    for name, parameter in network.named_parameters():
        is_unread = parameter.grad is None
        after[name] = torch.zeros_like(parameter) if is_unread else parameter.grad
    with jax.enable_x64(True), jax.default_device(jax.local_devices(backend="cpu")[0]):
        model = model.clone(dtype=None, param_dtype=jnp.float64)
        torch_after = from_torch({name: value.numpy() for name, value in after.items()}, model)
        linen_step = _step(model, from_torch(before, model), images, labels)
    gradients, statistics = torch_after["params"], torch_after["batch_stats"]
    sides = {
        "PyTorch": (logits.detach().numpy(), loss.item(), gradients, statistics),
        "aff_jax": linen_step,
    }
    return check_equal(
        {name: _by_kind(*found) for name, found in sides.items()},
        TOLERANCE,
        f"a training step of {type(model).__name__} in float64",
    )


def _step(model: nn.Module, variables: Any, images: np.ndarray, labels: np.ndarray) -> Any:
    """Return logits, loss, gradients and new statistics of the linen network."""

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
    """Concatenate the arrays of each kind.

    Differences are relative to the largest value of an array, and the gradient of a bias before a
    norm consists of rounding errors only.
    """

    def joined(tree: Any) -> np.ndarray:
        leaves = traverse_util.flatten_dict(tree)
        return np.concatenate([np.ravel(leaves[path]) for path in sorted(leaves)])

    return {
        "logits": np.asarray(logits),
        "loss": np.asarray(loss),
        "gradients": joined(gradients),
        "statistics": joined(statistics),
    }
