"""The layers that batch norms are folded into. The folded network has the same output."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import BatchNorm
from aff_jax.inference.find_foldings import _uses_running_statistics, find_foldings
from aff_jax.inference.folding import NORMS, apply_folded, fold
from tests.aff_jax.random_variables import random_variables

X = np.random.default_rng(0).standard_normal((3, 5, 5, 4))


class Net(nn.Module):
    """A module whose call is the function `body`."""

    body: object

    @nn.compact
    def __call__(self, x):
        return self.body(x)


def freeze_and_compare(body, x=X):
    """Check the folded output; return the layer of each norm, by path, and folded variables."""
    module = Net(body)
    with jax.enable_x64(True):
        x = jnp.asarray(x)
        variables = random_variables(module, x)
        foldings = find_foldings(module.apply, variables, (x,))
        folded = fold(variables, foldings)
        result = apply_folded(module.apply, foldings, folded, x)
        expected = module.apply(variables, x)
    # In float64 only the order of a few operations differs.
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)
    layers = {
        "/".join(path): folding.layer_path and "/".join(folding.layer_path)
        for path, folding in foldings.items()
    }
    return layers, folded


def norm(name="norm", **fields):
    return BatchNorm(name=name, param_dtype=jnp.float64, **fields)


def conv(name="conv", **fields):
    return nn.Conv(6, (3, 3), name=name, param_dtype=jnp.float64, **fields)


def flax_norm(name="norm", **fields):
    return nn.BatchNorm(True, name=name, param_dtype=jnp.float64, **fields)


@pytest.mark.parametrize("make_norm", [norm, flax_norm])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize(
    "fields", [{}, {"use_scale": False}, {"use_bias": False}, {"epsilon": 0.1}]
)
def test_a_norm_is_folded_into_the_convolution_before_it(make_norm, use_bias, fields):
    layers, folded = freeze_and_compare(
        lambda x: nn.relu(make_norm(**fields)(conv(use_bias=use_bias)(x)))
    )
    assert layers == {"norm": "conv"}
    assert "batch_stats" not in folded
    assert "norm" not in folded["params"]
    # The shift is added to the bias of the layer. Without a bias it remains.
    assert folded.get(NORMS, {}).get("norm", {}).keys() == (set() if use_bias else {"shift"})


@pytest.mark.parametrize(
    "fields",
    [{"strides": 2}, {"feature_group_count": 2}, {"kernel_dilation": 2}, {"padding": "VALID"}],
)
def test_strides_groups_and_padding_do_not_matter(fields):
    layers, _ = freeze_and_compare(lambda x: norm()(conv(use_bias=False, **fields)(x)))
    assert layers == {"norm": "conv"}


def test_dense_layers_and_one_dimensional_convolutions_fold():
    def body(x):
        x = norm("norm1")(nn.Dense(6, name="dense", param_dtype=jnp.float64)(x))
        x = x.reshape(len(x), -1, 6)
        return norm("norm2")(nn.Conv(5, (3,), name="conv", param_dtype=jnp.float64)(x))

    layers, _ = freeze_and_compare(body)
    assert layers == {"norm1": "dense", "norm2": "conv"}


@pytest.mark.parametrize(
    "body",
    [
        lambda x: norm()(x),  # no layer before it
        lambda x: norm()(nn.relu(conv()(x))),  # an operation between
        lambda x: (lambda y: norm()(y) + y)(conv()(x)),  # the layer is read twice
        lambda x: (lambda y: (norm()(y), y)[0] + 0 * y)(conv()(x)),
        lambda x: (lambda y: nn.relu(y) + norm()(y))(
            conv()(x)
        ),  # the layer is read inside another jaxpr
        lambda x: norm()(conv()(x) * 2),
        lambda x: conv()(
            norm()(x)
        ),  # before a convolution, which pads the norm's output with zeros
    ],
)
def test_a_norm_that_cannot_be_folded_becomes_factor_and_shift(body):
    layers, folded = freeze_and_compare(body)
    assert layers == {"norm": None}
    assert folded[NORMS]["norm"].keys() == {"factor", "shift"}


def test_an_output_of_the_module_counts_as_read():
    module = Net(lambda x: (lambda y: (norm()(y), y))(conv()(x)))
    with jax.enable_x64(True):
        variables = random_variables(module, X)
        assert find_foldings(module.apply, variables, (X,))[("norm",)].layer_path is None


def test_a_layer_called_twice_is_folded_only_if_the_same_norm_follows_both_calls():
    def same(x):
        layer, after = conv(), norm()
        return after(layer(x)) + nn.relu(after(layer(2 * x)))

    def other(x):
        layer = conv()
        return norm("norm1")(layer(x)) + norm("norm2")(layer(2 * x))

    def without(x):
        layer = conv()
        return norm()(layer(x)) + nn.relu(layer(2 * x))

    assert freeze_and_compare(same)[0] == {"norm": "conv"}
    assert freeze_and_compare(other)[0] == {"norm1": None, "norm2": None}
    assert freeze_and_compare(without)[0] == {"norm": None}


def test_a_norm_that_follows_two_layers_is_not_folded():
    def body(x):
        after = norm()
        return after(conv("conv1")(x)) + after(conv("conv2")(x))

    assert freeze_and_compare(body)[0] == {"norm": None}


def test_norms_are_folded_inside_remat_and_kept_inside_scan():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.relu(norm()(nn.Conv(4, (3, 3), name="conv", param_dtype=jnp.float64)(x)))

    class Step(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return Block(name="block")(x), None

    def body(x):
        x = nn.remat(Block)(name="remat")(x)
        stacked = nn.scan(
            Step,
            variable_axes={"params": 0, "batch_stats": 0},
            split_rngs={"params": True},
            length=3,
        )
        return stacked(name="stack")(x, None)[0]

    layers, folded = freeze_and_compare(body)
    assert layers == {"remat/norm": "remat/conv"}
    assert folded["batch_stats"]["stack"]["block"]["norm"]["mean"].shape == (3, 4)


def test_only_calls_with_running_statistics_are_folded():
    batch_norm = nn.BatchNorm(use_running_average=False)
    assert not _uses_running_statistics(batch_norm, (X,), {})
    assert not _uses_running_statistics(batch_norm, (X, False), {})
    assert _uses_running_statistics(batch_norm, (X,), {"use_running_average": True})
    assert not _uses_running_statistics(nn.BatchNorm(use_running_average=True, axis=1), (X,), {})
    assert not _uses_running_statistics(BatchNorm(), (X, True), {})
    assert not _uses_running_statistics(BatchNorm(), (X,), {"train": True})
    assert _uses_running_statistics(BatchNorm(), (X,), {})
    assert not _uses_running_statistics(nn.LayerNorm(), (X,), {})


def standardized(x, kernel, *arguments, **keywords):
    """Multiply by another kernel than the parameter."""
    return jax.lax.dot_general(x, kernel - kernel.mean(axis=0), *arguments, **keywords)


class Tied(nn.Module):
    """A dense layer whose kernel is read again, by its transpose."""

    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(6, name="dense", param_dtype=jnp.float64)
        h = norm()(layer(x))
        return h @ layer.variables["params"]["kernel"].T


@pytest.mark.parametrize(
    "body",
    [
        lambda x: norm()(nn.Dense(6, dot_general=standardized, param_dtype=jnp.float64)(x)),
        lambda x: norm()(nn.WeightNorm(nn.Dense(6, param_dtype=jnp.float64))(x)),
        lambda x: Tied(name="tied")(x),
    ],
    ids=["other product", "other kernel", "other reader"],
)
def test_a_kernel_with_other_readers_is_not_changed(body):
    layers, _ = freeze_and_compare(body)
    assert set(layers.values()) == {None}
