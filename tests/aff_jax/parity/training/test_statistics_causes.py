"""Conventions of running statistics that are found from the moments of batches."""

import numpy as np
import pytest
import torch

from aff_jax.parity.training.record import BatchMoments
from aff_jax.parity.training.samples import Samples
from aff_jax.parity.training.statistics_causes import explain_statistics

BATCH = np.random.default_rng(0).standard_normal((8, 3))


def make_samples(momentum=0.1, unbiased=True, calls=1, theirs=0.1):
    """Return samples of a JAX norm with the given convention. `theirs` is PyTorch's momentum."""
    mean, var = np.zeros(3), np.ones(3)
    samples = Samples(norm_momenta={"bn": theirs})
    samples.jax.statistics = {"bn.running_mean": [mean], "bn.running_var": [var]}
    for _ in range(calls):
        mean = mean + momentum * (BATCH.mean(0) - mean)
        var = var + momentum * (BATCH.var(0, ddof=int(unbiased)) - var)
    samples.jax.statistics["bn.running_mean"].append(mean)
    samples.jax.statistics["bn.running_var"].append(var)
    samples.batch_moments = [{"bn": [BatchMoments(BATCH.mean(0), BATCH.var(0), 8)] * calls}]
    return samples


def test_the_convention_of_pytorch_needs_no_explanation():
    samples = make_samples()
    assert explain_statistics(samples, "float64") == []
    # The statistics of `make_samples` are those of PyTorch's norm.
    norm = torch.nn.BatchNorm1d(3).double()
    norm(torch.from_numpy(BATCH))
    for leaf in ("running_mean", "running_var"):
        expected = getattr(norm, leaf).numpy()
        np.testing.assert_allclose(samples.jax.statistics[f"bn.{leaf}"][1], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"momentum": 0.01}, ["0.99 * old + 0.01 * batch", "momentum=0.9 in Flax"]),
        ({"momentum": 0.9}, ["PyTorch's value was probably passed on; Flax's is 1 - 0.1"]),
        ({"unbiased": False}, ["biased variance", "At bn, n = 8 and the factor is 1.14286"]),
        ({"momentum": 0.3, "unbiased": False}, ["0.7 * old + 0.3 * batch", "n = 8"]),
        # The share is searched among common ones if the norm is called twice.
        ({"momentum": 0.2, "calls": 2}, ["0.8 * old + 0.2 * batch"]),
        ({"momentum": 0.0}, ["JAX's running statistics do not change"]),
    ],
)
def test_other_conventions_are_named(options, parts):
    text = " ".join(explain_statistics(make_samples(**options), "float64"))
    for part in parts:
        assert part in text


def test_statistics_with_another_cause_are_not_explained():
    samples = make_samples()
    samples.jax.statistics["bn.running_mean"][1] = np.array([5.0, -4.0, 3.0])
    assert explain_statistics(samples, "float64") == []
    samples.batch_moments = [{}]
    assert explain_statistics(samples, "float64") == []


def test_a_cumulative_average_is_not_read_as_a_momentum():
    (text,) = explain_statistics(make_samples(theirs=None), "float64")
    assert "PyTorch has momentum=None, which keeps the average of all batches so far" in text
    assert "JAX computes 0.9 * old + 0.1 * batch" in text


def test_each_norm_is_compared_with_its_own_momentum():
    samples, other = make_samples(), make_samples(momentum=0.3)
    samples.norm_momenta = {"bn": 0.1, "late": 0.2}
    for leaf in ("running_mean", "running_var"):
        samples.jax.statistics[f"late.{leaf}"] = other.jax.statistics[f"bn.{leaf}"]
    samples.batch_moments[0]["late"] = other.batch_moments[0]["bn"]
    (text,) = explain_statistics(samples, "float64")
    assert "of 1 of 2 norms (late) differs: JAX computes 0.7 * old + 0.3 * batch" in text
    assert "PyTorch has momentum=0.2" in text
