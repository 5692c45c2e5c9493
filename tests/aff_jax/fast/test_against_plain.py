"""Every shortcut against the formula as written, in float64: outputs, gradients and statistics."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import MSCAM, create_fusion, list_fusions
from aff_jax.fast import target_platform
from tests.aff_jax.random_variables import random_variables

SCALES = [("local", "global"), ("global", "global"), ("local", "local"), ("local",), ("global",)]
# Both sides are float64.
EXACT = 1e-12


def with_shortcuts(name):
    """Return whether a fusion has the field `implementation`."""
    return hasattr(create_fusion(name), "implementation")


def evaluate(module, variables, inputs, cotangent, train):
    """Return the output, the gradients and the new statistics of a module."""

    def apply(params, *inputs):
        given = {**variables, "params": params}
        return module.apply(given, *inputs, train=train, mutable=["batch_stats"])

    # Without jit: the operations of all cases are compiled once.
    output, pull, updates = jax.vjp(apply, variables["params"], *inputs, has_aux=True)
    return output, pull(cotangent), updates


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("scales", SCALES, ids="+".join)
@pytest.mark.parametrize("name", ["ms_cam", *filter(with_shortcuts, list_fusions())])
def test_auto_equals_plain(name, scales, train):
    rng = np.random.default_rng(0)
    fields = {"scales": scales, "logit_scale": 1.5, "param_dtype": jnp.float64}
    gain = {"gain": 2.0} if name in ("aff", "iaff") else {}
    # 4 hidden channels and 4 * 5 * 5 rows: the rule derives the statistics of local branches.
    inputs = [rng.standard_normal((4, 5, 5, 16)) for _ in range(1 if name == "ms_cam" else 2)]
    with jax.enable_x64(True):
        make = MSCAM if name == "ms_cam" else (lambda **f: create_fusion(name, **f))
        auto, plain = (make(implementation=i, **fields, **gain) for i in ("auto", "plain"))
        variables = random_variables(plain, *inputs)
        cotangent = jnp.asarray(rng.standard_normal(inputs[0].shape))
        given = variables, list(map(jnp.asarray, inputs)), cotangent, train
        expected = evaluate(plain, *given)
        for platform in ("cpu", "tpu") if train else ("cpu",):
            with target_platform(platform):
                found = evaluate(auto, *given)
            chex.assert_trees_all_close(found, expected, rtol=EXACT, atol=EXACT)
