"""Calls of two networks are paired by name."""

import numpy as np

from aff_jax.parity.pairing import pair_outputs
from aff_jax.parity.rows import Output


def output(module, value, number=1):
    return Output(module, number, np.float32(value), np.float32(value))


def pair(jax_outputs, torch_outputs, names=None):
    """Return path, JAX position and PyTorch position. `names` maps JAX modules to PyTorch's."""
    own = [o.module for o in jax_outputs]
    given = [(names or {}).get(name, name) for name in own]
    matches = pair_outputs(jax_outputs, torch_outputs, given, {o.module for o in torch_outputs})
    return [(match.path, match.jax, match.torch) for match in matches]


def test_a_call_of_one_side_is_inserted_where_it_happened():
    jax_outputs = [output("a", [1]), output("b", [2]), output("a", [3], 2)]
    found = pair(jax_outputs, [output("a", [1]), output("b", [2])])
    assert found == [("a", 0, 0), ("b", 1, 1), ("a", 2, None)]
    torch_outputs = [output("a", [1]), output("a", [9], 2), output("a", [9], 3), output("b", [2])]
    found = pair(jax_outputs[:2], torch_outputs)
    assert found == [("a", 0, 0), ("a", None, 1), ("a", None, 2), ("b", 1, 3)]


def test_the_missing_call_is_the_one_that_fits_least():
    jax_outputs = [output("a", [1]), output("a", [3], 2)]
    torch_outputs = [output("a", [1]), output("a", [2], 2), output("a", [3], 3)]
    assert pair(jax_outputs, torch_outputs) == [("a", 0, 0), ("a", None, 1), ("a", 1, 2)]
    assert pair(torch_outputs, jax_outputs) == [("a", 0, 0), ("a", 1, None), ("a", 2, 1)]


def test_the_innermost_of_nested_modules_with_one_name_is_paired():
    names = {"block": "conv", "block/conv": "conv"}
    jax_outputs = [output("block/conv", [1]), output("block", [5])]
    assert pair(jax_outputs, [output("conv", [1])], names) == [("block/conv", 0, 0)]


def test_two_modules_with_one_name_are_its_first_and_second_call():
    names = {"first": "layer", "again": "layer"}
    found = pair(
        [output("first", [1]), output("again", [2])],
        [output("layer", [1]), output("layer", [2], 2)],
        names,
    )
    assert found == [("first", 0, 0), ("again", 1, 1)]


def test_a_module_without_a_name_in_pytorch_is_left_out_and_the_output_is_not():
    found = pair([output("own", [1]), output("[0]", [1])], [output("other", [1])])
    assert found == [("[0]", 1, None)]
