"""Layouts of kernels: what a layer computes here with ours is what PyTorch computes with theirs."""

import flax.linen as nn
import numpy as np
import pytest
import torch

from aff_jax.convert.entries import LAYOUTS, Entry

rng = np.random.default_rng(0)


def entry(layout, shape, dtype=np.float32):
    leaf_shape = LAYOUTS[layout].to_ours(np.zeros(shape)).shape
    return Entry("weight", shape, "params", ("layer", "kernel"), dtype, leaf_shape, layout)


@pytest.mark.parametrize(
    ("layout", "size"),
    [("dense", ())]
    + [
        (layout, size)
        for layout in sorted(LAYOUTS.keys() - {"dense"})
        for size in ((), (3,), (2, 3), (2, 3, 4))
    ],
)
def test_there_and_back_is_the_same_to_the_bit(layout, size):
    theirs = rng.standard_normal((4, 5, *size), np.float32)
    found = entry(layout, theirs.shape)
    ours = found.to_ours(theirs)
    assert LAYOUTS[layout].shape(ours.shape) == theirs.shape
    back = found.to_theirs(ours)
    np.testing.assert_array_equal(back, theirs)
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
def test_kernels_mean_the_same(layout):
    theirs, ours, shape = LAYERS[layout]
    weight = theirs.weight.detach().numpy()
    kernel = entry(layout, weight.shape).to_ours(weight)
    x = rng.standard_normal(shape, np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(np.moveaxis(x, -1, 1))).numpy()
    params = {"kernel": kernel, "bias": theirs.bias.detach().numpy()}
    # A dozen products in single precision.
    np.testing.assert_allclose(
        np.moveaxis(ours.apply({"params": params}, x), -1, 1), expected, rtol=1e-5, atol=1e-5
    )


def test_a_dense_kernel_fits_with_any_number_of_ones_behind_it():
    found = entry("dense", (5, 4))
    assert all(found.fits(np.zeros((5, 4, *ones))) for ones in ((), (1,), (1, 1)))
    assert not any(found.fits(np.zeros(shape)) for shape in ((4, 5), (5, 4, 2), (5,)))
    assert not entry("convolution", (5, 4, 3)).fits(np.zeros((5, 4, 3, 1)))


def test_leaves_have_the_dtype_of_the_module():
    half = rng.standard_normal((5, 4)).astype(np.float16)
    found = entry("dense", (5, 4), np.float64).to_ours(half)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, half.T)
