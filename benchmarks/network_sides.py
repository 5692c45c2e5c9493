"""The sides of `benchmarks.networks`: a training step and evaluation in both frameworks."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch.nn import functional

import aff_jax
from aff_jax.inference.freezing import freeze
from aff_jax.inspection import count_flops
from benchmarks.memory import peak_bytes_of_torch, peak_bytes_of_xla
from benchmarks.step_check import check_step
from benchmarks.timing import Side, check_equal
from benchmarks.torch_networks import make_network
from benchmarks.torch_sides import (
    EAGER,
    EAGER_LAST,
    autocast,
    channels_first,
    copies,
    device,
    synchronize,
    torch_dtype,
)

__all__ = ["AFF_JAX", "TOLERANCES", "Case", "Size", "evaluation", "make_case", "training"]

AFF_JAX = "aff_jax"
"""Name of the side of this library."""

LEARNING_RATE, MOMENTUM = 1e-3, 0.9
TOLERANCES = {"float32": 1e-3, "bfloat16": 5e-2}
"""Allowed difference by dtype, relative to the largest logit or the loss."""


@dataclasses.dataclass(frozen=True)
class Size:
    """Size of a step.

    Attributes:
        batch: Number of images.
        pixels: Height and width of an image.
    """

    batch: int
    pixels: int


@dataclasses.dataclass(frozen=True)
class Case:
    """A network with a fusion, and random images and labels.

    Attributes:
        name: Name of the network in both frameworks.
        fusion: Name of the fusion.
        size: Size of the images.
        dtype: Dtype of the computation.
        model: The linen module.
        variables: The weights of PyTorch's network, converted.
        images: `(batch, height, width, channels)`, float32.
        labels: `(batch,)`, int64.
    """

    name: str
    fusion: str
    size: Size
    dtype: str
    model: nn.Module
    variables: dict[str, Any]
    images: np.ndarray
    labels: np.ndarray

    def tensors(self, layout: torch.memory_format) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images and labels as tensors."""
        return channels_first(self.images, layout), torch.tensor(self.labels).to(device())


def make_case(name: str, fusion: str, size: Size, dtype: str) -> Case:
    """Make a case with the initial weights of PyTorch's network.

    Args:
        name: Name of the network in both frameworks.
        fusion: Name of the fusion.
        size: Size of the images.
        dtype: "float32" or "bfloat16".

    Returns:
        The case.
    """
    model = aff_jax.create_model(
        name,
        fusion,
        reference="pytorch",
        num_classes=10 if name.startswith("cifar") else 1000,
        dtype=None if dtype == "float32" else dtype,
    )
    variables = aff_jax.convert.from_torch(make_network(name, fusion).state_dict(), model)
    variables = {key: variables[key] for key in ("params", "batch_stats")}
    rng = np.random.default_rng(0)
    images = rng.standard_normal((size.batch, size.pixels, size.pixels, 3), np.float32)
    labels = rng.integers(0, 10, size.batch)
    return Case(name, fusion, size, dtype, model, variables, images, labels)


def evaluation(case: Case, with_compiled: bool) -> tuple[dict[str, Side], dict[str, Any]]:
    """Make the sides of evaluation and check that their logits are equal.

    Args:
        case: The network and its images.
        with_compiled: Include torch.compile.

    Returns:
        The sides by name, and the largest relative `difference`.
    """
    sides: dict[str, Side] = {}
    outputs: dict[str, dict[str, np.ndarray]] = {}
    dtype = torch_dtype(case.dtype)
    made = copies(lambda: make_network(case.name, case.fusion), with_compiled, dtype)
    for name, called, module, layout in made:
        module.eval()
        images = case.tensors(layout)[0].to(dtype)

        def call(called: Any = called, images: torch.Tensor = images) -> torch.Tensor:
            with torch.inference_mode():
                result: torch.Tensor = called(images)
                return result

        sides[name] = Side(call, synchronize)
        outputs[name] = {"logits": call().float().cpu().numpy()}
    jax_images = jnp.asarray(case.images)
    frozen = freeze(case.model, case.variables, jax_images, dtype=case.dtype)
    sides[AFF_JAX] = Side(lambda: frozen(jax_images), jax.block_until_ready)
    outputs[AFF_JAX] = {"logits": np.asarray(frozen(jax_images), np.float32)}
    what = f"{case.name} with {case.fusion}, evaluation"
    return sides, {"difference": check_equal(outputs, TOLERANCES[case.dtype], what)}


def training(case: Case, with_compiled: bool) -> tuple[dict[str, Side], dict[str, Any]]:
    """Make the sides of a training step and check that the steps are equal.

    Args:
        case: The network and its images.
        with_compiled: Include torch.compile.

    Returns:
        The sides by name, and measurements of the step: the largest relative `difference`, the
        `flops` of aff_jax, and by side the peak bytes of aff_jax and of PyTorch eager,
        channels-last.
    """
    few, small = min(4, case.size.batch), min(64, case.size.pixels)
    check_step(
        make_network(case.name, case.fusion),
        case.model,
        case.images[:few, :small, :small],
        case.labels[:few],
    )
    sides: dict[str, Side] = {}
    outputs: dict[str, dict[str, np.ndarray]] = {}
    measured: dict[str, Any] = {}
    made = copies(lambda: make_network(case.name, case.fusion), with_compiled)
    for name, called, module, layout in made:
        step, held = _torch_step(case, called, module.train(), layout)
        sides[name] = Side(step, synchronize)
        outputs[name] = {"loss": np.asarray(step().item())}
        if name == EAGER_LAST:
            measured[name] = peak_bytes_of_torch(step, held())

    optimizer = optax.sgd(LEARNING_RATE, momentum=MOMENTUM, nesterov=True)
    labels = jnp.asarray(case.labels)
    images = jnp.asarray(case.images)

    def train_step(state: tuple[Any, Any, Any], images: Any, labels: Any) -> tuple[Any, jax.Array]:
        params, stats, opt_state = state

        def loss_of(params: Any) -> tuple[jax.Array, Any]:
            tree = {"params": params, "batch_stats": stats}
            logits, new = case.model.apply(tree, images, train=True, mutable=["batch_stats"])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return jnp.mean(losses), new["batch_stats"]

        (loss, stats), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return (optax.apply_updates(params, updates), stats, opt_state), loss

    params, stats = (jax.tree.map(jnp.array, case.variables[k]) for k in ("params", "batch_stats"))
    state = (params, stats, optimizer.init(params))
    lowered = jax.jit(train_step, donate_argnums=0).lower(state, images, labels)
    compiled = lowered.compile()
    measured[AFF_JAX] = peak_bytes_of_xla(compiled)
    measured["flops"] = count_flops(compiled)

    def call() -> jax.Array:
        nonlocal state
        state, loss = compiled(state, images, labels)
        return loss

    outputs[AFF_JAX] = {"loss": np.asarray(call())}
    # One program computes the state and the loss, so both are ready at the same time.
    sides[AFF_JAX] = Side(call, jax.block_until_ready)
    # PyTorch's two layouts may differ too, for example if the norm of a pooled branch has only four
    # values per channel.
    losses = {name: float(arrays["loss"]) for name, arrays in outputs.items()}
    between_layouts = abs(losses[EAGER_LAST] - losses[EAGER]) / abs(losses[EAGER])
    allowed = max(TOLERANCES[case.dtype], 10 * between_layouts)
    what = f"{case.name} with {case.fusion}, training"
    return sides, measured | {"difference": check_equal(outputs, allowed, what)}


def _torch_step(
    case: Case, called: Any, module: torch.nn.Module, layout: torch.memory_format
) -> tuple[Callable[[], torch.Tensor], Callable[[], list[torch.Tensor]]]:
    """Return PyTorch's training step, and a function that lists the tensors it keeps.

    The step returns the loss.
    """
    images, labels = case.tensors(layout)
    optimizer = torch.optim.SGD(
        module.parameters(), LEARNING_RATE, momentum=MOMENTUM, nesterov=True
    )

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with autocast(case.dtype):
            loss = functional.cross_entropy(called(images), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def held() -> list[torch.Tensor]:
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        momentum = [entry["momentum_buffer"] for entry in optimizer.state.values()]
        return [images, labels, *module.state_dict().values(), *gradients, *momentum]

    return step, held
