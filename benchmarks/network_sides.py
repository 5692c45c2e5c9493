"""The sides of `benchmarks.networks`: a training step and evaluation, in both frameworks."""

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
from benchmarks.memory import peak_bytes_of_torch, peak_bytes_of_xla
from benchmarks.timing import Side, check_equal
from benchmarks.torch_networks import make_network
from benchmarks.torch_sides import SIDES, channels_first, copies, device, synchronize
from benchmarks.twins import check_step

__all__ = [
    "COMPILED",
    "EAGER",
    "EAGER_LAST",
    "OURS",
    "TOLERANCES",
    "Case",
    "Size",
    "evaluation",
    "make_case",
    "training",
]

EAGER, EAGER_LAST, COMPILED = SIDES
OURS = "aff_jax"
RATE, MOMENTUM = 1e-3, 0.9
TOLERANCES = {"float32": 1e-3, "bfloat16": 5e-2}
"""Differences that are allowed, as a share of the largest logit or loss."""


@dataclasses.dataclass(frozen=True)
class Size:
    """Images of a step, and their height and width."""

    batch: int
    pixels: int


@dataclasses.dataclass(frozen=True)
class Case:
    """A network with a fusion: both frameworks' with one set of weights, and random images."""

    name: str
    fusion: str
    size: Size
    dtype: str
    model: nn.Module
    variables: dict[str, Any]
    images: np.ndarray
    labels: np.ndarray

    @property
    def torch_dtype(self) -> torch.dtype:
        """PyTorch's word for the dtype."""
        found: torch.dtype = getattr(torch, self.dtype)
        return found

    def tensors(self, layout: torch.memory_format) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and labels as PyTorch has them."""
        return channels_first(self.images, layout), torch.tensor(self.labels).to(device())


def make_case(name: str, fusion: str, size: Size, dtype: str) -> Case:
    """Weights as PyTorch starts them, and as aff_jax reads them from its state dict."""
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
    """The sides of one network with one fusion."""
    sides: dict[str, Side] = {}
    outputs: dict[str, dict[str, np.ndarray]] = {}
    made = copies(lambda: make_network(case.name, case.fusion), with_compiled, case.torch_dtype)
    for name, called, module, layout in made:
        module.eval()
        images = case.tensors(layout)[0].to(case.torch_dtype)

        def call(called: Any = called, images: torch.Tensor = images) -> torch.Tensor:
            with torch.inference_mode():
                result: torch.Tensor = called(images)
                return result

        sides[name] = Side(call, synchronize)
        outputs[name] = {"logits": call().float().cpu().numpy()}
    ours = jnp.asarray(case.images)
    frozen = freeze(case.model, case.variables, ours, dtype=case.dtype)
    sides[OURS] = Side(lambda: frozen(ours), jax.block_until_ready)
    outputs[OURS] = {"logits": np.asarray(frozen(ours), np.float32)}
    what = f"{case.name} with {case.fusion}, evaluation"
    return sides, {"difference": check_equal(outputs, TOLERANCES[case.dtype], what)}


def training(case: Case, with_compiled: bool) -> tuple[dict[str, Side], dict[str, Any]]:
    """The sides of one network with one fusion, and bytes and operations of a step."""
    few, small = min(4, case.size.batch), min(64, case.size.pixels)
    check_step(
        make_network(case.name, case.fusion),
        case.model,
        case.images[:few, :small, :small],
        case.labels[:few],
    )
    sides: dict[str, Side] = {}
    outputs: dict[str, dict[str, np.ndarray]] = {}
    facts: dict[str, Any] = {}
    made = copies(lambda: make_network(case.name, case.fusion), with_compiled)
    for name, called, module, layout in made:
        step, held = _torch_step(case, called, module.train(), layout)
        sides[name] = Side(step, synchronize)
        outputs[name] = {"loss": np.asarray(step().item())}
        if name == EAGER_LAST:
            facts[name] = peak_bytes_of_torch(step, held())

    optimizer = optax.sgd(RATE, momentum=MOMENTUM, nesterov=True)
    labels = jnp.asarray(case.labels)
    images = jnp.asarray(case.images)

    def step_of(state: tuple[Any, Any, Any], images: Any, labels: Any) -> tuple[Any, jax.Array]:
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
    lowered = jax.jit(step_of, donate_argnums=0).lower(state, images, labels)
    compiled = lowered.compile()
    facts[OURS] = peak_bytes_of_xla(compiled)
    facts["flops"] = (compiled.cost_analysis() or {}).get("flops")

    def call() -> jax.Array:
        nonlocal state
        state, loss = compiled(state, images, labels)
        return loss

    outputs[OURS] = {"loss": np.asarray(call())}
    # The state is ready when the loss is: one program computes both.
    sides[OURS] = Side(call, jax.block_until_ready)
    # Where PyTorch's two layouts part, as with a pooled branch's norm over four images, so may we.
    losses = {name: float(arrays["loss"]) for name, arrays in outputs.items()}
    own = abs(losses[EAGER_LAST] - losses[EAGER]) / abs(losses[EAGER])
    allowed = max(TOLERANCES[case.dtype], 10 * own)
    what = f"{case.name} with {case.fusion}, training"
    return sides, facts | {"difference": check_equal(outputs, allowed, what)}


def _torch_step(
    case: Case, called: Any, module: torch.nn.Module, layout: torch.memory_format
) -> tuple[Callable[[], torch.Tensor], Callable[[], list[torch.Tensor]]]:
    """One training step of PyTorch, which gives the loss; and the tensors kept between steps."""
    images, labels = case.tensors(layout)
    low = case.torch_dtype != torch.float32
    optimizer = torch.optim.SGD(module.parameters(), RATE, momentum=MOMENTUM, nesterov=True)

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device().type, case.torch_dtype, enabled=low):
            loss = functional.cross_entropy(called(images), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def held() -> list[torch.Tensor]:
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        momentum = [entry["momentum_buffer"] for entry in optimizer.state.values()]
        return [images, labels, *module.state_dict().values(), *gradients, *momentum]

    return step, held
