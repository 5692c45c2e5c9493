"""Layouts of kernels: Flax layers compute the same as PyTorch's after conversion."""

import flax.linen as nn
import numpy as np
import pytest
import torch

from aff_jax.convert.entries import KERNEL_LAYOUTS, Entry

rng = np.random.default_rng(0)


def entry(layout, shape, dtype=np.float32):
    leaf_shape = KERNEL_LAYOUTS[layout].to_flax(np.zeros(shape)).shape
    return Entry("weight", shape, "params", ("layer", "kernel"), dtype, leaf_shape, layout)


@pytest.mark.parametrize(
    ("layout", "size"),
    [("dense", ())]
    + [
        (layout, size)
        for layout in sorted(KERNEL_LAYOUTS.keys() - {"dense"})
        for size in ((), (3,), (2, 3), (2, 3, 4))
    ],
)
def test_round_trip_is_bit_exact(layout, size):
    array = rng.standard_normal((4, 5, *size), np.float32)
    kernel = entry(layout, array.shape)
    leaf = kernel.to_leaf(array)
    assert KERNEL_LAYOUTS[layout].framework_shape(leaf.shape) == array.shape
    back = kernel.to_array(leaf)
    np.testing.assert_array_equal(back, array)
    assert back.flags.c_contiguous
    assert back.flags.writeable


LAYERS = {
    "dense": (torch.nn.Linear(4, 5), nn.Dense(5), (2, 4)),
    "convolution": (torch.nn.Conv1d(4, 5, 3), nn.Conv(5, (3,), padding="VALID"), (2, 9, 4)),
    "transposed convolution": (
        torch.nn.ConvTranspose2d(4, 5, (2, 3), 2),
        nn.ConvTranspose(5, (2, 3), (2, 2), padding="VALID"),
        (2, 3, 4, 4),
    ),
}


@pytest.mark.parametrize("layout", LAYERS)
def test_converted_kernels_compute_the_same(layout):
    torch_layer, layer, shape = LAYERS[layout]
    weight = torch_layer.weight.detach().numpy()
    kernel = entry(layout, weight.shape).to_leaf(weight)
    x = rng.standard_normal(shape, np.float32)
    with torch.no_grad():
        expected = torch_layer(torch.from_numpy(np.moveaxis(x, -1, 1))).numpy()
    params = {"kernel": kernel, "bias": torch_layer.bias.detach().numpy()}
    # Sums of a dozen products in float32.
    np.testing.assert_allclose(
        np.moveaxis(layer.apply({"params": params}, x), -1, 1), expected, rtol=1e-5, atol=1e-5
    )


def test_dense_kernels_may_have_any_number_of_final_ones():
    dense = entry("dense", (5, 4))
    assert all(dense.accepts(np.zeros((5, 4, *ones))) for ones in ((), (1,), (1, 1)))
    assert not any(dense.accepts(np.zeros(shape)) for shape in ((4, 5), (5, 4, 2), (5,)))
    assert not entry("convolution", (5, 4, 3)).accepts(np.zeros((5, 4, 3, 1)))


def test_leaves_have_the_dtype_of_the_module():
    half = rng.standard_normal((5, 4)).astype(np.float16)
    leaf = entry("dense", (5, 4), np.float64).to_leaf(half)
    assert leaf.dtype == np.float64
    np.testing.assert_array_equal(leaf, half.T)
