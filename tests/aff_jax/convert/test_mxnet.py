"""Conversion of Gluon's parameters, in particular of batch norms without scale or bias."""

import chex
import flax.linen as nn
import numpy as np
import pytest

from aff_jax import BatchNorm
from aff_jax.convert import from_mxnet
from tests.aff_jax import oracle

C = 4
rng = np.random.default_rng(0)


class Normed(nn.Module):
    """One batch norm."""

    fields: dict

    @nn.compact
    def __call__(self, x):
        return BatchNorm(**self.fields, name="norm")(x)


@pytest.fixture
def gluon():
    """Return the parameters of a norm as Gluon stores them, used or not."""
    names = "gamma", "beta", "running_mean", "running_var"
    return {f"norm.{name}": np.float32(1 + rng.uniform(size=C)) for name in names}


def batch_norm(x, gluon, gamma):
    """Compute Gluon's batch norm: it always adds beta, and it ignores gamma with `scale=False`."""
    params = {"scale": gamma, "bias": gluon["norm.beta"]}
    stats = {"mean": gluon["norm.running_mean"], "var": gluon["norm.running_var"]}
    return oracle.batch_norm(np.float64(x), params, stats, train=False)


@pytest.mark.parametrize("use_scale", [True, False])
@pytest.mark.parametrize("use_bias", [True, False])
def test_the_output_is_that_of_gluon(gluon, use_scale, use_bias):
    x = np.float32(rng.standard_normal((5, C)))
    module = Normed({"use_scale": use_scale, "use_bias": use_bias})
    variables = from_mxnet(gluon, module, x)
    assert variables.get("params", {}).get("norm", {}).keys() == {
        name for name, used in (("scale", use_scale), ("bias", use_bias)) if used
    }
    gamma = gluon["norm.gamma"] if use_scale else np.ones(C)
    # Single precision against double precision.
    np.testing.assert_allclose(
        module.apply(variables, x), batch_norm(x, gluon, gamma), rtol=1e-5, atol=1e-5
    )


def test_the_beta_of_a_norm_without_bias_moves_the_mean(gluon):
    module = Normed({"use_bias": False, "epsilon": 0.1})
    stats = from_mxnet(gluon, module, np.zeros((2, C), np.float32))["batch_stats"]["norm"]
    std = np.sqrt(gluon["norm.running_var"] + 0.1)
    mean = gluon["norm.running_mean"] - gluon["norm.beta"] * std / gluon["norm.gamma"]
    np.testing.assert_allclose(stats["mean"], mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(stats["var"], gluon["norm.running_var"])


def test_a_module_may_need_keyword_arguments(gluon):
    class Flagged(Normed):
        def __call__(self, x, *, doubled):
            return super().__call__(x) * (2 if doubled else 1)

    x = np.zeros((2, C), np.float32)
    variables = from_mxnet(gluon, Flagged({}), x, kwargs={"doubled": True})
    chex.assert_trees_all_equal(variables, from_mxnet(gluon, Normed({}), x))


def test_an_unused_array_of_the_wrong_shape_is_listed(gluon):
    gluon["norm.beta"] = np.zeros(C + 1, np.float32)
    with pytest.raises(ValueError, match=r"unexpected  norm.beta \(5,\)"):
        from_mxnet(gluon, Normed({"use_bias": False}), np.zeros((2, C), np.float32))
