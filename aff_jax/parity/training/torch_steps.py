"""Train a copy of a PyTorch module for some steps and record each step."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from aff_jax.parity.array_differences import largest_difference
from aff_jax.parity.layouts import align
from aff_jax.parity.recording.inputs import list_torch_inputs, perturb
from aff_jax.parity.recording.recorder import Inputs, is_array
from aff_jax.parity.recording.torch_network import TorchNetwork
from aff_jax.parity.recording.torch_recording import from_tensor
from aff_jax.parity.training.record import BatchMoments, TrainingStep

__all__ = ["TorchTraining"]

_SHARE_OF_RANDOM = 1e-3
"""Smallest change of the output, relative to its largest value, that is not due to rounding."""


class TorchTraining:
    """Training of copies of a PyTorch module on one batch.

    Args:
        network: The network, whose module is put in training mode.
        inputs: Arrays and flags, as given to the linen module.
        torch_inputs: Inputs in PyTorch's layout, instead of `inputs`.
        loss: Function of the outputs of the module that returns a scalar.
        make_optimizer: Function of a list of parameters that returns a PyTorch optimizer.
        names: Names of the parameters and statistics that are recorded.
        layout: Layout of the inputs for `list_torch_inputs`. None tries all.
        expected: Outputs of the linen module in training mode. Of the layouts that the module
            takes, the one is used whose outputs are nearest to them; without them, the first one.

    Raises:
        ValueError: If the module takes the inputs in no layout, or draws random numbers.
    """

    def __init__(
        self,
        network: TorchNetwork,
        inputs: Sequence[Any],
        torch_inputs: Sequence[Any] | None,
        loss: Callable[[Any], Any],
        make_optimizer: Callable[[list[Any]], Any],
        names: Iterable[str],
        *,
        layout: str | None = None,
        expected: Sequence[np.ndarray] = (),
    ):
        self.module = network.module.train()
        self.loss, self.make_optimizer, self.names = loss, make_optimizer, set(names)
        self.settings: dict[str, Mapping[str, Any]] = {}
        self.has_gradient: dict[str, bool] = {}
        self.optimizer_name = ""
        if torch_inputs is None:
            options = list_torch_inputs(Inputs(tuple(inputs), {}), layout, network.has_sequences)
            torch_inputs = self._find_inputs(options, expected)
        self.inputs = torch_inputs
        self._check_random()

    def run(self, steps: int, perturbed: bool = False) -> Iterator[TrainingStep]:
        """Train.

        Args:
            steps: Number of steps.
            perturbed: Start from weights that are changed by one unit in the last place.

        Yields:
            The state before the first step, and each step. Its arrays are views and change in the
            next step.

        Raises:
            TypeError: If `make_optimizer` is not a function or does not return a PyTorch
                optimizer.
            ValueError: If the loss is not a scalar, or the optimizer has other parameters.
        """
        import torch

        module = copy.deepcopy(self.module)
        weights = {
            name: parameter
            for name, parameter in module.named_parameters(remove_duplicate=False)
            if name in self.names
        }
        if perturbed:
            arrays = perturb({name: w.detach().numpy() for name, w in weights.items()})
            with torch.no_grad():
                for name, array in arrays.items():
                    weights[name].copy_(torch.from_numpy(array))
        optimizer = self._make_optimizer(module)
        batches: dict[str, list[BatchMoments]] = {}
        _record_batches(module, batches)

        def state() -> dict[str, Any]:
            """Return the weights and statistics as views."""
            statistics = {n: b.numpy() for n, b in module.named_buffers() if n in self.names}
            arrays = {name: weight.detach().numpy() for name, weight in weights.items()}
            return {"weights": arrays, "statistics": statistics}

        yield TrainingStep(**state())
        for _ in range(steps):
            batches.clear()
            optimizer.zero_grad()
            with torch.random.fork_rng(devices=[]):
                outputs = module(*_to_tensors(self.inputs))
                value = self.loss(outputs)
            recorded = [
                from_tensor(leaf)
                for leaf in jax.tree.leaves(outputs)
                if isinstance(leaf, torch.Tensor)
            ]
            if not isinstance(value, torch.Tensor) or value.ndim:
                got = f"shape {tuple(value.shape)}" if hasattr(value, "shape") else type(value)
                raise ValueError(
                    f"expected `torch_loss` to return a scalar tensor, got {got}. Probably it "
                    f"returns one loss per example: take the mean, on both sides."
                )
            value.backward()
            # Copies: hooks of the optimizer may clip gradients in place.
            gradients = {
                name: None if weight.grad is None else from_tensor(weight.grad)
                for name, weight in weights.items()
            }
            self.has_gradient = {n: p.grad is not None for n, p in module.named_parameters()}
            optimizer.step()
            moments = {
                f"{name}.{key}": value.numpy()
                for name, weight in weights.items()
                for key, value in optimizer.state.get(weight, {}).items()
                if isinstance(value, torch.Tensor) and value.shape == weight.shape and key != "step"
            }
            yield TrainingStep(
                loss=value.item(),
                outputs=recorded,
                gradients=gradients,
                optimizer_state=moments,
                batch_moments={name: list(calls) for name, calls in batches.items()},
                **state(),
            )

    def norm_momenta(self) -> dict[str, float | None]:
        """Return the momentum of each batch norm by name; None is a cumulative average."""
        import torch

        kind = torch.nn.modules.batchnorm._BatchNorm
        return {n: m.momentum for n, m in self.module.named_modules() if isinstance(m, kind)}

    def tied_weights(self) -> list[list[str]]:
        """Return the groups of recorded names that belong to one weight."""
        groups: dict[int, list[str]] = {}
        for name, parameter in self.module.named_parameters(remove_duplicate=False):
            if name in self.names:
                groups.setdefault(id(parameter), []).append(name)
        return [names for names in groups.values() if len(names) > 1]

    def padding_rows(self) -> dict[str, int]:
        """Return the rows of embeddings that get no gradient, by the name of the weight."""
        return {
            f"{name}.weight": part.padding_idx
            for name, part in self.module.named_modules()
            if isinstance(getattr(part, "padding_idx", None), int)
        }

    def _make_optimizer(self, module: Any) -> Any:
        """Make the optimizer, check it, and keep the settings of each weight."""
        import torch

        if isinstance(self.make_optimizer, torch.optim.Optimizer) or not callable(
            self.make_optimizer
        ):
            raise TypeError(
                f"expected `torch_optimizer` to be a function of the parameters, such as "
                f"`lambda p: torch.optim.SGD(p, 0.1)`, got {type(self.make_optimizer).__name__}. "
                f"A copy of the module is trained, so its optimizer is made here."
            )
        optimizer = self.make_optimizer(list(module.parameters()))
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(
                f"expected `torch_optimizer` to return a torch.optim.Optimizer, got "
                f"{type(optimizer).__name__}. Return it from the function; the optax optimizer is "
                f"`optimizer`."
            )
        if isinstance(optimizer, torch.optim.LBFGS):
            raise TypeError(
                "expected a `torch_optimizer` that takes one step per gradient, got LBFGS, which "
                "computes the loss several times. Compare another optimizer."
            )
        by_id: dict[int, list[str]] = {}
        for name, parameter in module.named_parameters(remove_duplicate=False):
            by_id.setdefault(id(parameter), []).append(name)
        settings: dict[str, Mapping[str, Any]] = {}
        for group in optimizer.param_groups:
            values = {key: value for key, value in group.items() if key != "params"}
            for parameter in group["params"]:
                if id(parameter) not in by_id:
                    raise ValueError(
                        "torch_optimizer: the optimizer has parameters that are not in the copy of "
                        "the module. Use the parameters that the function is called with, as in "
                        "`lambda p: torch.optim.SGD(p, 0.1)`, not the parameters of your module."
                    )
                settings |= dict.fromkeys(by_id[id(parameter)], values)
        self.settings, self.optimizer_name = settings, type(optimizer).__name__
        return optimizer

    def _find_inputs(
        self, options: Iterable[tuple[str, Inputs]], expected: Sequence[np.ndarray]
    ) -> Sequence[Any]:
        """Return the inputs in the layout whose outputs are nearest to the expected ones."""
        failures, found = [], []
        for shapes, chosen in options:
            try:
                outputs = self._forward(chosen.args)
            except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
                failures.append(f"{shapes}: {type(error).__name__}: {error}")
            else:
                found.append((_distance(outputs, expected), chosen.args))
        if found:
            return min(found, key=lambda pair: pair[0])[1]
        raise ValueError(
            "the PyTorch module raises an error in training mode with inputs of these shapes:\n  "
            + "\n  ".join(failures)
            + "\nIf it takes other inputs than the linen module, pass them as `torch_inputs`."
        )

    def _forward(self, inputs: Sequence[Any], seed: int = 0) -> list[Any]:
        """Run a fresh copy, so that running statistics don't change."""
        import torch

        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.default_generator.manual_seed(seed)  # torch.manual_seed also sets GPUs' seeds
            outputs = copy.deepcopy(self.module)(*_to_tensors(inputs))
        return [x for x in jax.tree.leaves(outputs) if isinstance(x, torch.Tensor)]

    def _check_random(self) -> None:
        """Raise an error if two seeds give different outputs."""
        names = [
            f"{name} (p={module.p})"
            for name, module in self.module.named_modules()
            if "Dropout" in type(module).__name__ and getattr(module, "p", 0) > 0
        ]
        pairs = zip(self._forward(self.inputs, 0), self._forward(self.inputs, 1), strict=True)
        changes = [
            float((a - b).abs().max()) > _SHARE_OF_RANDOM * float(a.abs().max())
            for a, b in pairs
            if a.is_floating_point() and a.numel()
        ]
        if names or any(changes):
            where = f": {', '.join(names[:5])}" if names else ""
            raise ValueError(
                f"the PyTorch module draws random numbers in training, probably for "
                f"dropout{where}. JAX draws others, so the steps cannot be compared. Set the "
                f"probability of each dropout to 0 on both sides, as with "
                f"`for m in module.modules(): if isinstance(m, torch.nn.Dropout): m.p = 0`."
            )


def _distance(outputs: Sequence[Any], expected: Sequence[np.ndarray]) -> float:
    """Return the largest difference of the outputs; infinity if they cannot be compared."""
    if len(outputs) != len(expected):
        return np.inf
    differences = [0.0]
    for tensor, jax_array in zip(outputs, expected, strict=True):
        aligned = align(from_tensor(tensor), jax_array)
        differences.append(
            np.inf if aligned is None else largest_difference(aligned.array, jax_array)
        )
    return float(np.nan_to_num(max(differences), nan=np.inf))


def _to_tensors(inputs: Sequence[Any]) -> list[Any]:
    """Copy arrays to tensors: the module may work in place."""
    import torch

    return [torch.from_numpy(np.array(x, order="C")) if is_array(x) else x for x in inputs]


def _record_batches(module: Any, batches: dict[str, list[BatchMoments]]) -> None:
    """Record the moments of the inputs of all batch norms."""
    import torch

    def hook(name: str) -> Callable[..., None]:
        def note(_norm: Any, inputs: Any) -> None:
            x = inputs[0].detach().transpose(0, 1).flatten(1)
            moments = x.mean(1).numpy(), x.var(1, correction=0).numpy()
            batches.setdefault(name, []).append(BatchMoments(*moments, x.shape[1]))

        return note

    for name, submodule in module.named_modules():
        is_norm = isinstance(submodule, torch.nn.modules.batchnorm._BatchNorm)
        if is_norm and submodule.training and submodule.track_running_stats:
            submodule.register_forward_pre_hook(hook(name))
