"""Inputs of networks from a file."""

import flax.linen as nn
import numpy as np
import torch

from aff_jax.cli.input_files import bind_inputs, read_inputs


def test_unnamed_arrays_have_the_order_of_their_numbers(tmp_path):
    path = str(tmp_path / "x.npz")
    np.savez(path, *(np.full(2, number) for number in range(12)))
    assert [array[0] for array in read_inputs(path).values()] == list(range(12))
    np.savez(path, b=np.ones(1), a=np.ones(2))
    assert list(read_inputs(path)) == ["b", "a"]


def test_arrays_with_other_names_are_positional():
    arrays = {"first": np.ones(1), "second": np.ones(2)}
    args, kwargs = bind_inputs(arrays, nn.Dense(3), torch.nn.Linear(3, 3))
    assert [len(array) for array in args] == [1, 2]
    assert kwargs == {}
