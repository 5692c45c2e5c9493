"""Layers whose arrays PyTorch packs together: attention and recurrent cells.

PyTorch concatenates the arrays of several layers of Flax into one. `MultiheadAttention` has the
kernels of query, key and value in `in_proj_weight`, and `LSTM` has the kernels of its four gates in
`weight_ih_l0`. For each array of PyTorch, a form lists the names of its parts. `unpack` splits the
arrays of a checkpoint into these parts, so that `arrays_to_variables` finds them, and `pack` is its
inverse.

PyTorch has two biases where a cell of Flax has one. `unpack` adds them, and `pack` writes the sum
as the first and zeros as the second::

    LSTM, RNN    b  = b_ih + b_hh
    GRU          b_r = b_ir + b_hr,  b_z = b_iz + b_hz      b_in and b_hn stay apart

References:
    PyTorch, `torch/nn/modules/rnn.py` and `torch/nn/modules/activation.py`.
"""

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import flax.linen as nn
import numpy as np

from aff_jax.convert.packed_forms import Form, select_forms
from aff_jax.convert.rules import PYTORCH
from aff_jax.convert.stacks import find_stacks, numbered_name
from aff_jax.inspection import ModulePath, Structure

__all__ = ["list_forms", "pack", "unpack"]


def list_forms(structure: Structure) -> list[list[Form]]:
    """List the forms of every layer that PyTorch packs.

    Args:
        structure: Structure of a linen module.

    Returns:
        For each layer its forms. The first is the form of PyTorch's own module. In the last one,
        every part is an array of its own.
    """
    rnns = _find_rnns(structure)
    stacks = find_stacks(structure)
    layers = []
    for path, layer in structure.layers.items():
        make = next((make for kind, make in _FORMS.items() if isinstance(layer.module, kind)), None)
        if make is None:
            continue
        outer = next((s for key, s in stacks.items() if key[1 : len(path) + 1] == path), [])
        outer = [stack for stack in outer if stack.depth <= len(path)]
        for numbers in itertools.product(*(range(stack.length) for stack in outer)):

            def name_of(path: ModulePath, outer: Any = outer, numbers: Any = numbers) -> str:
                inside = [stack for stack in outer if stack.depth <= len(path)]
                return numbered_name(PYTORCH, path, structure, inside, numbers[: len(inside)])

            layers.append(make(path, structure, name_of, rnns))
    return layers


def unpack(
    arrays: Mapping[str, np.ndarray], layers: Sequence[Sequence[Form]]
) -> dict[str, np.ndarray]:
    """Split the packed arrays of a checkpoint.

    Args:
        arrays: Arrays of the checkpoint by name.
        layers: Forms of every layer, from `list_forms`.

    Returns:
        One array per name of the last form of each layer. Arrays that are not packed, or whose
        first axis cannot be split, stay as they are.
    """
    result = dict(arrays)
    for form in (form for forms in layers for form in forms[:-1]):
        present = {name: form.parts[name] for name in form.parts if name in result}
        split = {
            name: np.split(result[name], len(parts))
            for name, parts in present.items()
            if result[name].ndim and len(result[name]) % len(parts) == 0
        }
        optional = set(form.optional) & set(split)
        if optional != set(form.optional):  # one of two biases: an error lists it as unexpected
            split = {name: chunks for name, chunks in split.items() if name not in optional}
        if not split or any(part in result for name in split for part in form.parts[name]):
            continue
        for name, chunks in split.items():
            del result[name]
            for part, chunk in zip(form.parts[name], chunks, strict=True):
                # Float64: the sum of two biases is rounded once, to the dtype of the variable.
                result[part] = result[part].astype(np.float64) + chunk if part in result else chunk
        if not optional:
            size = len(next(iter(split.values()))[0])
            for part in (part for name in form.optional for part in form.parts[name]):
                result.setdefault(part, np.zeros(size))
    return result


def pack(
    arrays: Mapping[str, np.ndarray],
    layers: Sequence[Sequence[Form]],
    names: Collection[str] = (),
    prefixes: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Concatenate the arrays that PyTorch packs.

    Args:
        arrays: One array per name, as `unpack` returns them.
        layers: Forms of every layer, from `list_forms`.
        names: Names of the checkpoint to write, if they are known. They select the form of each
            layer.
        prefixes: Prefixes of names of the checkpoint. If there are no names, the longest prefix
            that a form has selects it. Without any, it is the first form.

    Returns:
        Arrays of the checkpoint by name, bit-exact.
    """
    result = dict(arrays)
    for form in select_forms(layers, names, prefixes):
        written: set[str] = set()
        for name, parts in form.parts.items():
            if not all(part in arrays for part in parts):
                continue  # a layer without biases
            chunks = [
                np.zeros_like(arrays[part]) if part in written else arrays[part] for part in parts
            ]
            packed = np.concatenate(chunks)
            written.update(parts)
            # A module with `bias=False` has no such array.
            is_left_out = name in form.optional and names and name not in names
            if not (is_left_out and not packed.any()):
                result[name] = packed
        for part in written:
            if part not in form.parts:
                del result[part]
    return result


_NameOf = Callable[[ModulePath], str]
"""A function that returns the name of a submodule in PyTorch."""

_Rnns = Mapping[ModulePath, Sequence[tuple[ModulePath, str]]]
"""For the path of each cell, the modules that run it, and the suffix of its arrays in them."""


def _attention_forms(
    path: ModulePath, structure: Structure, name_of: _NameOf, _: _Rnns
) -> list[Form]:
    """Return the forms of `MultiheadAttention`, with kernels of equal or other input sizes."""
    layers = ("query", "key", "value", "out")
    own = name_of(path)
    names = {layer: name_of((*path, layer)) for layer in layers}
    weights = {layer: f"{name}.weight" for layer, name in names.items()}
    biases = {layer: f"{name}.bias" for layer, name in names.items()}
    out = {
        _join(own, "out_proj.weight"): (weights["out"],),
        _join(own, "out_proj.bias"): (biases["out"],),
    }
    in_bias = {_join(own, "in_proj_bias"): tuple(biases[layer] for layer in layers[:3])}
    in_weight = {_join(own, "in_proj_weight"): tuple(weights[layer] for layer in layers[:3])}
    apart = {_join(own, f"{layer[0]}_proj_weight"): (weights[layer],) for layer in layers[:3]}
    linear = {
        _join(own, f"{layer[0]}_proj.{leaf}"): (parts[layer],)
        for layer in layers[:3]
        for leaf, parts in (("weight", weights), ("bias", biases))
    }
    fused_form, apart_form = (
        Form({**in_weight, **in_bias, **out}),
        Form({**apart, **in_bias, **out}),
    )
    linear_form = Form({**linear, **out})
    sizes = [_kernel_size((*path, layer), structure) for layer in layers[:3]]
    (query_in, query_out), *rest = sizes
    if query_in != query_out:  # PyTorch's module has no such layer.
        forms = [linear_form, fused_form, apart_form]
    elif all(size == sizes[0] for size in rest):
        forms = [fused_form, apart_form, linear_form]
    else:
        forms = [apart_form, fused_form, linear_form]
    return [*forms, _plain((*weights.values(), *biases.values()))]


def _kernel_size(path: ModulePath, structure: Structure) -> tuple[int, int]:
    """Return the number of inputs and outputs of a projection of attention."""
    shape = structure.layers[path].shapes["params", "kernel"]
    return shape[0], math.prod(shape[1:])


def _cell_forms(
    gates: tuple[str, ...], input_bias: tuple[str, ...], hidden_bias: tuple[str, ...]
) -> Callable[..., list[Form]]:
    """Return a function that lists the forms of a recurrent cell.

    Args:
        gates: Ends of the names of the layers, in PyTorch's order.
        input_bias: Layer that has each of PyTorch's first biases.
        hidden_bias: Layer that has each of the second ones.
    """

    def forms(path: ModulePath, structure: Structure, name_of: _NameOf, rnns: _Rnns) -> list[Form]:
        def parts(layers: Sequence[str], leaf: str) -> tuple[str, ...]:
            return tuple(f"{name_of((*path, layer))}.{leaf}" for layer in layers)

        parts_of = {
            "weight_ih": parts([f"i{gate}" for gate in gates], "weight"),
            "weight_hh": parts([f"h{gate}" for gate in gates], "weight"),
            "bias_ih": parts(input_bias, "bias"),
            "bias_hh": parts(hidden_bias, "bias"),
        }
        runners = [(name_of(runner), suffix) for runner, suffix in rnns.get(path, ())]
        own = [(name_of(path), ""), (name_of(path), "_l0")]
        found = []
        for module, suffix in [*runners, *(reversed(own) if runners else own)]:
            names = {name: _join(module, name + suffix) for name in parts_of}
            optional = (names["bias_ih"], names["bias_hh"])
            found.append(Form({names[n]: p for n, p in parts_of.items()}, optional))
        return [*found, _plain(tuple(itertools.chain(*parts_of.values())))]

    return forms


def _find_rnns(structure: Structure) -> dict[ModulePath, list[tuple[ModulePath, str]]]:
    """Find the `nn.RNN` and `nn.Bidirectional` that run each cell.

    A cell that is made in a compact method is a sibling of its `nn.RNN`, not a submodule of it.
    """
    found: dict[ModulePath, list[tuple[ModulePath, str]]] = {}
    cells = {
        path: tuple(layer.module.cell.path)
        for path, layer in structure.layers.items()
        if isinstance(layer.module, nn.RNN)
    }
    for path, layer in structure.layers.items():
        if isinstance(layer.module, nn.Bidirectional):
            pair: Any = ((layer.module.forward_rnn, ""), (layer.module.backward_rnn, "_reverse"))
            for rnn, suffix in pair:
                if tuple(rnn.path) in cells:
                    found.setdefault(cells[tuple(rnn.path)], []).append((path, f"_l0{suffix}"))
    for path, cell in cells.items():
        found.setdefault(cell, []).append((path, "_l0"))
    return found


def _plain(names: Sequence[str]) -> Form:
    return Form({name: (name,) for name in names})


def _join(module: str, name: str) -> str:
    return f"{module}.{name}" if module else name


def _gates(prefix: str, gates: str) -> tuple[str, ...]:
    return tuple(prefix + gate for gate in gates)


_lstm_forms = _cell_forms(tuple("ifgo"), _gates("h", "ifgo"), _gates("h", "ifgo"))

_FORMS: dict[type[nn.Module], Callable[..., list[Form]]] = {
    nn.MultiHeadDotProductAttention: _attention_forms,
    nn.LSTMCell: _lstm_forms,
    nn.OptimizedLSTMCell: _lstm_forms,
    nn.GRUCell: _cell_forms(tuple("rzn"), _gates("i", "rzn"), ("ir", "iz", "hn")),
    nn.SimpleCell: _cell_forms(("",), ("i",), ("i",)),
}
"""For each class of layer, the function that lists its forms."""
