"""The rule of the shortcuts."""

import flax.linen as nn
import jax.numpy as jnp
import pytest

from aff_jax import MSCAM, BatchNorm
from aff_jax.fast import takes_shortcut, target_platform
from aff_jax.fast.rule import IMPLEMENTATIONS, RULES


def derives(hidden_shape, channels, implementation="auto", train=True):
    # Only the names of the variables matter.
    dense = nn.Dense(channels).bind({"params": {"kernel": None}})
    norm = BatchNorm().bind({"batch_stats": {"mean": None}})
    return takes_shortcut(
        "derived_statistics",
        implementation,
        train=train,
        dense=dense,
        norm=norm,
        hidden_shape=hidden_shape,
        channels=channels,
    )


@pytest.mark.parametrize(
    ("hidden_shape", "channels", "expected"),
    [
        ((32, 32, 32, 16), 64, True),
        ((8, 56, 56, 64), 256, True),
        ((64, 56, 56, 128), 512, False),  # more hidden channels than were measured
        ((1, 8, 8, 64), 256, False),  # as many hidden channels as rows
        ((32, 1, 1, 64), 256, False),  # a global branch
        ((32, 32, 32, 64), 64, False),  # the hidden layer is not narrower than the output
    ],
)
def test_statistics_are_derived_where_the_output_is_wide_and_long(hidden_shape, channels, expected):
    assert derives(hidden_shape, channels) == expected


def test_statistics_are_not_derived_in_evaluation():
    assert not derives((32, 32, 32, 16), 64, train=False)


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_rows_are_flat_in_a_program_for_a_cpu(platform):
    with target_platform(platform):
        assert takes_shortcut("flat_rows", "auto") == (platform == "cpu")
        assert not takes_shortcut("flat_rows", "plain")


def test_plain_takes_no_shortcut():
    assert not derives((32, 32, 32, 16), 64, implementation="plain")
    assert not takes_shortcut("explicit_sigmoid", "plain", train=False)
    assert not takes_shortcut("gain_inside_sum", "plain")
    assert set(RULES) == {"derived_statistics", "flat_rows", "explicit_sigmoid", "gain_inside_sum"}
    assert set(IMPLEMENTATIONS) == {"auto", "plain"}


def test_an_unknown_implementation_is_refused():
    with pytest.raises(ValueError, match=r"unknown implementation 'fast'.*auto, plain"):
        MSCAM(implementation="fast").init({}, jnp.ones((2, 8)))
