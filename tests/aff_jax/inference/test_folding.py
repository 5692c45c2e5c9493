"""Which batch norms are folded into what, read from modules written for the purpose."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import BatchNorm
from aff_jax.inference.folding import NORMS, _evaluates, apply_folded, find_foldings, fold
from tests.aff_jax.random_variables import random_variables

X = np.random.default_rng(0).standard_normal((3, 5, 5, 4))


class Net(nn.Module):
    """Whatever `body` does with a dictionary of layers made on demand."""

    body: object

    @nn.compact
    def __call__(self, x):
        return self.body(x)


def freeze_and_compare(body, x=X):
    """Foldings by path in words, and folded variables; the outputs are those of the module."""
    module = Net(body)
    with jax.enable_x64(True):
        x = jnp.asarray(x)
        variables = random_variables(module, x)
        foldings = find_foldings(module, variables, (x,))
        folded = fold(variables, foldings)
        result = apply_folded(module, foldings, folded, x)
        expected = module.apply(variables, x)
    # Float64 throughout: what is left is the order of a few operations.
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)
    names = {
        "/".join(path): folding.layer and "/".join(folding.layer)
        for path, folding in foldings.items()
    }
    return names, folded


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
def test_a_norm_goes_into_the_convolution_before_it(make_norm, use_bias, fields):
    names, folded = freeze_and_compare(
        lambda x: nn.relu(make_norm(**fields)(conv(use_bias=use_bias)(x)))
    )
    assert names == {"norm": "conv"}
    assert "batch_stats" not in folded
    assert "norm" not in folded["params"]
    # A layer with a bias takes up all of the norm; one without leaves the shift.
    assert folded.get(NORMS, {}).get("norm", {}).keys() == (set() if use_bias else {"shift"})


@pytest.mark.parametrize(
    "fields",
    [{"strides": 2}, {"feature_group_count": 2}, {"kernel_dilation": 2}, {"padding": "VALID"}],
)
def test_strides_groups_and_padding_make_no_difference(fields):
    names, _ = freeze_and_compare(lambda x: norm()(conv(use_bias=False, **fields)(x)))
    assert names == {"norm": "conv"}


def test_dense_layers_and_one_dimensional_convolutions_fold():
    def body(x):
        x = norm("norm1")(nn.Dense(6, name="dense", param_dtype=jnp.float64)(x))
        x = x.reshape(len(x), -1, 6)
        return norm("norm2")(nn.Conv(5, (3,), name="conv", param_dtype=jnp.float64)(x))

    names, _ = freeze_and_compare(body)
    assert names == {"norm1": "dense", "norm2": "conv"}


@pytest.mark.parametrize(
    "body",
    [
        lambda x: norm()(x),  # nothing before it
        lambda x: norm()(nn.relu(conv()(x))),  # something between
        lambda x: (lambda y: norm()(y) + y)(conv()(x)),  # read twice
        lambda x: (lambda y: (norm()(y), y)[0] + 0 * y)(conv()(x)),
        lambda x: (lambda y: nn.relu(y) + norm()(y))(conv()(x)),  # read inside another function
        lambda x: norm()(conv()(x) * 2),
        lambda x: conv()(norm()(x)),  # before a convolution, whose padding is zero after the norm
    ],
)
def test_a_norm_that_can_not_be_folded_becomes_scale_and_shift(body):
    names, folded = freeze_and_compare(body)
    assert names == {"norm": None}
    assert folded[NORMS]["norm"].keys() == {"scale", "shift"}


def test_an_output_of_the_network_is_read_by_somebody():
    module = Net(lambda x: (lambda y: (norm()(y), y))(conv()(x)))
    with jax.enable_x64(True):
        variables = random_variables(module, X)
        assert find_foldings(module, variables, (X,))[("norm",)].layer is None


def test_a_layer_called_twice_folds_only_if_the_same_norm_follows_both_times():
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


def test_norms_inside_remat_fold_and_inside_scan_stay():
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

    names, folded = freeze_and_compare(body)
    assert names == {"remat/norm": "remat/conv"}
    assert folded["batch_stats"]["stack"]["block"]["norm"]["mean"].shape == (3, 4)


def test_a_norm_that_uses_the_batch_stays():
    whole = nn.BatchNorm(use_running_average=False)
    assert not _evaluates(whole, (X,), {})
    assert not _evaluates(whole, (X, False), {})
    assert _evaluates(whole, (X,), {"use_running_average": True})
    assert not _evaluates(nn.BatchNorm(use_running_average=True, axis=1), (X,), {})
    assert not _evaluates(BatchNorm(), (X, True), {})
    assert not _evaluates(BatchNorm(), (X,), {"train": True})
    assert _evaluates(BatchNorm(), (X,), {})
    assert not _evaluates(nn.LayerNorm(), (X,), {})


def standardised(x, kernel, *arguments, **keywords):
    """A product with another kernel than the one that is kept."""
    return jax.lax.dot_general(x, kernel - kernel.mean(axis=0), *arguments, **keywords)


class Tied(nn.Module):
    """A layer whose kernel is read a second time, by the way back."""

    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(6, name="dense", param_dtype=jnp.float64)
        h = norm()(layer(x))
        return h @ layer.variables["params"]["kernel"].T


@pytest.mark.parametrize(
    "body",
    [
        lambda x: norm()(nn.Dense(6, dot_general=standardised, param_dtype=jnp.float64)(x)),
        lambda x: norm()(nn.WeightNorm(nn.Dense(6, param_dtype=jnp.float64))(x)),
        lambda x: Tied(name="tied")(x),
    ],
    ids=["another product", "another kernel", "another reader"],
)
def test_a_kernel_that_is_read_otherwise_is_left_alone(body):
    names, _ = freeze_and_compare(body)
    assert set(names.values()) == {None}


def test_a_flax_norm_without_parameters_keeps_the_dtype_of_its_input():
    module = nn.BatchNorm(True, use_scale=False, use_bias=False)
    x = jnp.ones((2, 3), jnp.bfloat16)
    variables = module.init(jax.random.key(0), x)
    foldings = find_foldings(module, variables, (x,))
    result = apply_folded(module, foldings, fold(variables, foldings), x)
    assert result.dtype == module.apply(variables, x).dtype == jnp.bfloat16
