"""Train a linen module for some steps and record each step under PyTorch's names."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import errors, traverse_util

from aff_jax.convert.entries import UNREAD, Entry
from aff_jax.convert.mapping import variables_to_arrays
from aff_jax.parity.recording.inputs import EVALUATION
from aff_jax.parity.training.packed_arrays import Packing
from aff_jax.parity.training.record import NamedArrays, TrainingStep

__all__ = ["TRAINING_FLAGS", "LinenTraining", "bind_training_arguments"]

TRAINING_FLAGS = {flag: not value for flag, value in EVALUATION.items()}
"""Arguments by which linen modules are put in training mode, and their values."""

_MOMENTS = {
    "trace": ("momentum_buffer",),
    "mu": ("exp_avg",),
    "nu": ("exp_avg_sq", "square_avg"),
    "sum_of_squares": ("sum",),
}
"""PyTorch's names of the fields of optax's states."""


def bind_training_arguments(
    module: nn.Module, inputs: Sequence[Any], kwargs: Mapping[str, Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Add the training flag to the arguments of a linen module.

    Args:
        module: The module.
        inputs: Its positional arguments.
        kwargs: Its keyword arguments. None sets the arguments in `TRAINING_FLAGS` that the module
            has and `inputs` does not give.

    Returns:
        Positional and keyword arguments. As many as possible are positional.
    """
    signature = inspect.signature(module.__call__)
    if kwargs is None:
        given = signature.bind_partial(*inputs).arguments
        kwargs = {
            flag: value
            for flag, value in TRAINING_FLAGS.items()
            if flag in signature.parameters and flag not in given
        }
    bound = signature.bind_partial(*inputs, **kwargs)
    bound.apply_defaults()
    return bound.args, bound.kwargs


class LinenTraining:
    """Training of a linen module on one batch, compiled once.

    Args:
        module: The module.
        inputs: Positional arguments of the module in training mode.
        kwargs: Keyword arguments of the module in training mode.
        loss: Function of the outputs of the module that returns a scalar.
        optimizer: Optax gradient transformation.
        entries: Entries of the module, which name the arrays.
        names: Names in the PyTorch module by the names of the entries, after packing.
        packing: Forms in which PyTorch packs arrays.
    """

    def __init__(
        self,
        module: nn.Module,
        inputs: Sequence[Any],
        kwargs: Mapping[str, Any],
        loss: Callable[[Any], Any],
        optimizer: Any,
        entries: Sequence[Entry],
        names: Mapping[str, str],
        packing: Packing,
    ):
        if not (callable(getattr(optimizer, "init", None)) and hasattr(optimizer, "update")):
            raise TypeError(
                f"expected `optimizer` to be an optax gradient transformation, such as "
                f"optax.sgd(0.1), got {optimizer!r}. PyTorch's optimizer is `torch_optimizer`."
            )
        self.optimizer = optimizer
        self.entries = [entry for entry in entries if entry.collection != UNREAD]
        self.names = names
        self.packing = packing

        def compute_loss(params: Any, state: Mapping[str, Any]) -> tuple[Any, Any]:
            outputs, new = module.apply(
                {"params": params, **state}, *inputs, **kwargs, mutable=list(state)
            )
            value = loss(outputs)
            if not isinstance(value, jax.Array) or value.shape != ():
                got = f"shape {value.shape}" if hasattr(value, "shape") else repr(type(value))
                raise ValueError(
                    f"expected `loss` to return a scalar array, got {got}. Probably it returns one "
                    f"loss per example: take the mean with jnp.mean, on both sides."
                )
            return value, (outputs, new)

        def step(params: Any, state: Any, optimizer_state: Any) -> Any:
            compute = jax.value_and_grad(compute_loss, has_aux=True)
            (value, (outputs, new)), gradients = compute(params, state)
            updates, optimizer_state = optimizer.update(gradients, optimizer_state, params)
            params = jax.tree.map(lambda p, u: jnp.asarray(p + u, p.dtype), params, updates)
            return value, outputs, gradients, params, {**state, **new}, optimizer_state

        self.step = jax.jit(step)
        self.forward = jax.jit(
            lambda variables: module.apply(variables, *inputs, **kwargs, mutable=list(variables))[0]
        )

    def first_outputs(self, variables: Mapping[str, Any]) -> list[np.ndarray]:
        """Compute the outputs in training mode.

        Args:
            variables: Variables of the module.

        Returns:
            The arrays that the module returns; none if it draws random numbers.
        """
        known = {name: collection for name, collection in variables.items() if name != UNREAD}
        try:
            with jax.default_matmul_precision("highest"):
                return [np.asarray(leaf) for leaf in jax.tree.leaves(self.forward(known))]
        except errors.InvalidRngError:
            return []  # `run` explains it

    def run(self, variables: Mapping[str, Any], steps: int) -> Iterator[TrainingStep]:
        """Train.

        Args:
            variables: Initial variables.
            steps: Number of steps.

        Yields:
            The state before the first step, and each step.

        Raises:
            ValueError: If the loss is not a scalar, or the module draws random numbers.
        """
        params = variables["params"]
        state = {name: c for name, c in variables.items() if name not in ("params", UNREAD)}
        # Without jit, JAX would compile a program for each shape of a weight.
        optimizer_state = jax.jit(self.optimizer.init)(params)
        weights, statistics = self._name_arrays(params, state)
        yield TrainingStep(weights=weights, statistics=statistics)
        for _ in range(steps):
            try:
                with jax.default_matmul_precision("highest"):
                    loss, outputs, gradients, params, state, optimizer_state = self.step(
                        params, state, optimizer_state
                    )
            except errors.InvalidRngError as error:
                raise ValueError(
                    f"the linen module draws random numbers in training, probably for dropout, and "
                    f"PyTorch draws others, so the steps cannot be compared. Set the rate of each "
                    f"Dropout to 0 on both sides. Flax says: {error}"
                ) from error
            weights, statistics = self._name_arrays(params, state)
            yield TrainingStep(
                loss=float(loss),
                outputs=[np.asarray(leaf) for leaf in jax.tree.leaves(outputs)],
                gradients=dict(self._name_arrays(gradients, state, sums=False)[0]),
                optimizer_state=self._name_moments(optimizer_state, params, state),
                weights=weights,
                statistics=statistics,
            )

    def _name_arrays(
        self, params: Any, state: Mapping[str, Any], sums: bool = True
    ) -> tuple[NamedArrays, NamedArrays]:
        """Return a tree of the shape of the parameters, and the statistics, by name."""
        variables = {"params": params, "batch_stats": state.get("batch_stats", {})}
        arrays = self.packing.to_torch_arrays(variables_to_arrays(self.entries, variables), sums)
        statistic_names = {e.name for e in self.entries if e.collection == "batch_stats"}
        weights: NamedArrays = {}
        statistics: NamedArrays = {}
        for name, array in arrays.items():
            if name in self.names:
                named = statistics if name in statistic_names else weights
                named[self.names[name]] = array
        return weights, statistics

    def _name_moments(self, optimizer_state: Any, params: Any, state: Any) -> NamedArrays:
        """Return the moments in the state of the optimizer by PyTorch's names."""
        shapes = {path: leaf.shape for path, leaf in traverse_util.flatten_dict(params).items()}
        moments: NamedArrays = {}
        for field, tree in _find_moments(optimizer_state):
            flat = traverse_util.flatten_dict(tree)
            # Masked transformations have other objects in place of the arrays that they skip.
            leaves = {
                path: flat[path] if hasattr(flat.get(path), "shape") else np.full(shape, np.nan)
                for path, shape in shapes.items()
            }
            unflattened = traverse_util.unflatten_dict(leaves)
            for name, array in self._name_arrays(unflattened, state, sums=False)[0].items():
                if not np.isnan(array).all():
                    moments |= {f"{name}.{torch_name}": array for torch_name in _MOMENTS[field]}
        return moments


def _find_moments(state: Any) -> Iterator[tuple[str, Any]]:
    """Find the fields of `_MOMENTS` in the nested tuples and dicts of an optax state."""
    if isinstance(state, Mapping):
        for value in state.values():
            yield from _find_moments(value)
    elif isinstance(state, tuple):
        for field, value in zip(getattr(state, "_fields", [""] * len(state)), state, strict=True):
            if field in _MOMENTS and isinstance(value, Mapping):
                yield field, value
            else:
                yield from _find_moments(value)
