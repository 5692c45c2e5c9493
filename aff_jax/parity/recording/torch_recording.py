"""Run a PyTorch module and record what its submodules return."""

import copy
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

import jax
import numpy as np

from aff_jax.parity.recording.recorder import Call, Inputs, is_array, list_leaves

__all__ = ["copy_torch", "from_tensor", "list_reparametrized", "record_torch"]


def copy_torch(module: Any, dtype: str, folds: bool = False) -> Any:
    """Copy a PyTorch module for a comparison.

    Args:
        module: A `torch.nn.Module`. It is not changed.
        dtype: "float32" or "float64".
        folds: Replace weights under `weight_norm`, `spectral_norm` and other parametrizations by
            plain weights of the same values and of the dtype of `module`.

    Returns:
        A copy on the CPU, of floating-point dtype `dtype`, in evaluation mode, without the wrappers
        of `DataParallel`, `DistributedDataParallel` and `torch.compile`.
    """
    import torch

    def unwrap(module: Any) -> Any:
        while True:
            if isinstance(
                module, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel
            ):
                module = module.module
            elif hasattr(module, "_orig_mod"):  # of torch.compile, whose class takes long to import
                module = module._orig_mod
            else:
                return module

    module = unwrap(module)
    # Tensors with a gradient function cannot be copied. The old `torch.nn.utils.weight_norm` keeps
    # the weight as such an attribute, and computes it again in every call.
    computed = [
        value
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, torch.Tensor) and value.grad_fn is not None
    ]
    module = copy.deepcopy(module, {id(value): value.detach().clone() for value in computed})
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if unwrap(child) is not child:
                setattr(parent, name, unwrap(child))
    if folds:
        _fold_parametrizations(module.eval())
    # `module.to(dtype)` would drop the imaginary parts of complex weights and buffers.
    wide, complex_dtype = {
        "float32": (torch.float32, torch.complex64),
        "float64": (torch.float64, torch.complex128),
    }[dtype]

    def convert(tensor: Any) -> Any:
        if tensor.is_complex():
            return tensor.to("cpu", complex_dtype)
        return tensor.to("cpu", wide if tensor.is_floating_point() else None)

    return module._apply(convert).eval()


def list_reparametrized(module: Any) -> list[str]:
    """List the weights that a PyTorch module computes from others.

    Args:
        module: A `torch.nn.Module`.

    Returns:
        Names of the weights under `weight_norm`, `spectral_norm` and other parametrizations.
    """
    from torch.nn.utils import parametrize
    from torch.nn.utils.spectral_norm import SpectralNorm
    from torch.nn.utils.weight_norm import WeightNorm

    names = []
    for name, part in module.named_modules():
        leaves = list(part.parametrizations) if parametrize.is_parametrized(part) else []
        hooks = part._forward_pre_hooks.values()
        leaves += [hook.name for hook in hooks if isinstance(hook, WeightNorm | SpectralNorm)]
        names += [f"{name}.{leaf}" if name else leaf for leaf in leaves]
    return names


def _fold_parametrizations(module: Any) -> None:
    """Replace computed weights by plain ones. Both networks then have the same rounded weights."""
    import torch
    from torch.nn.utils import parametrize, remove_spectral_norm, remove_weight_norm
    from torch.nn.utils.spectral_norm import SpectralNorm
    from torch.nn.utils.weight_norm import WeightNorm

    for part in module.modules():
        if parametrize.is_parametrized(part):
            values = {name: getattr(part, name).detach() for name in part.parametrizations}
            del part.parametrizations
            # `remove_parametrizations` would change the class, which copies share.
            part.__class__ = type(part).__bases__[0]
            for name, value in values.items():
                part.register_parameter(name, torch.nn.Parameter(value))
        for hook in list(part._forward_pre_hooks.values()):
            for kind, remove in (
                (WeightNorm, remove_weight_norm),
                (SpectralNorm, remove_spectral_norm),
            ):
                if isinstance(hook, kind):
                    remove(part, hook.name)


def record_torch(
    module: Any, inputs: Inputs, inputs_of: Collection[str] = (), perturb: bool = False
) -> list[Call]:
    """Run a PyTorch module and record the outputs of all submodules.

    Args:
        module: A `torch.nn.Module`, from `copy_torch`.
        inputs: Its inputs. Arrays become tensors.
        inputs_of: Names of the submodules whose inputs are recorded too.
        perturb: Change every floating-point input of every submodule by one unit in the last place,
            to measure how the network amplifies the rounding of what it computes.

    Returns:
        The calls in the order in which they end. The last is the call of `module`. A submodule with
        several names has the first of them.
    """
    import torch

    calls: list[Call] = []
    numbers: Counter[str] = Counter()
    given: dict[str, list[tuple[np.ndarray, ...]]] = {}

    def to_arrays(tree: Any) -> dict[tuple[str, int], np.ndarray]:
        leaves = [leaf for leaf in list_leaves(tree) if isinstance(leaf[1], torch.Tensor)]
        return {(key, i): from_tensor(leaf) for i, (key, leaf) in enumerate(leaves)}

    def before(name: str) -> Callable[..., None]:
        # Recorded before the call, which may change its input in place.
        def note(_module: Any, args: Any, kwargs: Any) -> None:
            given.setdefault(name, []).append(tuple(to_arrays((args, kwargs)).values()))

        return note

    def after(name: str) -> Callable[..., None]:
        def note(_module: Any, _args: Any, output: Any) -> None:
            numbers[name] += 1
            inputs = given[name].pop() if name in inputs_of else ()
            outputs = to_arrays(output)
            keys = tuple(key for key, _ in outputs)
            calls.append(Call(name, numbers[name], tuple(outputs.values()), inputs, keys))

        return note

    generator = torch.Generator().manual_seed(0)

    def change(x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            return x
        up = torch.rand(x.shape, generator=generator) < 0.5
        infinity = torch.full((), torch.inf, dtype=x.dtype)
        return torch.nextafter(x, torch.where(up, infinity, -infinity))

    def change_inputs(_module: Any, args: Any, kwargs: Any) -> Any:
        return tuple(map(change, args)), {name: change(value) for name, value in kwargs.items()}

    hooks = []
    for name, submodule in module.named_modules():
        if perturb:
            hooks.append(submodule.register_forward_pre_hook(change_inputs, with_kwargs=True))
        if name in inputs_of:
            hooks.append(submodule.register_forward_pre_hook(before(name), with_kwargs=True))
        hooks.append(submodule.register_forward_hook(after(name)))

    def to_tensor(x: Any) -> Any:
        # Copy: NumPy views of JAX arrays are read-only, and PyTorch needs writable memory.
        return torch.from_numpy(np.array(x, order="C")) if is_array(x) else x

    args, kwargs = jax.tree.map(to_tensor, tuple(inputs))
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            module(*args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def from_tensor(tensor: Any) -> np.ndarray:
    """Copy a PyTorch tensor to an array.

    Args:
        tensor: The tensor.

    Returns:
        A NumPy array of the same dtype, or float32 for bfloat16, which NumPy does not have.
    """
    import torch

    tensor = tensor.detach().cpu()
    wide = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    array: np.ndarray = wide.numpy().copy()
    return array
