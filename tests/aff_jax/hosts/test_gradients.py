"""Each parameter has a gradient, in every family of hosts and with every fusion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import list_fusions
from tests.aff_jax.hosts.families import FAMILIES, small
from tests.aff_jax.random_variables import random_variables

# The fusions that change which biases have a gradient, in all hosts, and every fusion in the hosts
# where a fusion joins skips and where it joins kernel sizes.
PAIRS = sorted(
    {(name, fusion) for name in FAMILIES for fusion in ("add", "concat", "aff")}
    | {(name, fusion) for name in ("cifar_resnet8", "inception8") for fusion in list_fusions()}
)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fusion"), PAIRS)
def test_every_parameter_has_a_gradient(name, fusion):
    model = small(name, fusion)
    # The stems for ImageNet divide the size by 4, and the second stage by 2.
    size = 32 if name.startswith("resnet") else 8
    x = np.float32(np.random.default_rng(0).standard_normal((4, size, size, 1)))
    variables = random_variables(model, x, dtype=np.float32)

    def loss(params):
        logits, _ = model.apply({**variables, "params": params}, x, True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(logits))

    # The program runs once: optimization takes longer than it saves.
    options = {"xla_backend_optimization_level": 0}
    before_norms = names_before_norms(name, fusion)
    gradients = jax.jit(jax.grad(loss), compiler_options=options)(variables["params"])
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        at = jax.tree_util.keystr(path)
        assert np.isfinite(gradient).all(), at
        is_bias = at.endswith("['bias']")
        is_zero = is_bias and at.removesuffix("['bias']").endswith(before_norms)
        # Rounding leaves up to 3e-6 of a gradient that is zero. The scales before the norm of
        # `concat` have little more, because that norm removes them except for its epsilon.
        least = 1e-7 if fusion == "concat" else 1e-4
        assert is_zero or np.abs(gradient).max() > least, at


# Norms before a fusion whose bias the norm of the next block removes, because the fusion adds that
# branch unweighted. The other biases are read by attention and weighted position by position.
REMOVED_IN_INCEPTION = {
    "add": ("norm3x3", "norm5x5"),
    "concat": ("norm3x3", "norm5x5"),
    "se": ("norm3x3",),
    "ms_se": ("norm3x3",),
    "gau": ("norm5x5",),
    "ms_gau": ("norm5x5",),
}


def names_before_norms(name, fusion):
    """Return ends of paths of layers whose bias has no gradient, because a norm removes it."""
    layers = ["['reduce']", "['expand']"]
    if name in ("cifar_resnet8", "inception8", "fpn_resnet20", "unet_resnet20"):
        layers.append("['project']")
        layers += [f"['{norm}']" for norm in REMOVED_IN_INCEPTION.get(fusion, ())]
    elif fusion == "concat":  # it starts with a norm of both branches
        layers += ["['conv2']['norm']", "['conv3']['norm']", "['downsample']['norm']"]
    return tuple(layers)
