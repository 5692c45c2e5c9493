"""Every family of hosts with every fusion: a gradient for each parameter, and no unread ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import create_model, list_fusions
from aff_jax.hosts.registry import host_classes
from tests.aff_jax.random_variables import random_variables

# A network of each class, as small as it can be.
RESIDUAL = {"base_channels": 8, "blocks_per_stage": (1, 1), "reduction": 4}
FAMILIES = {
    "cifar_resnet8": {},
    "cifar_resnext29_32x4d": {**RESIDUAL, "groups": 2, "width_per_group": 32},
    "inception8": {},
    "fpn_resnet20": {"blocks_per_stage": 1},
    "unet_resnet20": {"blocks_per_stage": 1},
    "resnet18": RESIDUAL,
    "resnet50_v1d": {**RESIDUAL, "stem_width": 4, "fusion_start": 1},
}


def test_every_class_of_hosts_is_here():
    assert {type(create_model(name, "add", **f)) for name, f in FAMILIES.items()} == {
        *host_classes()
    }


@pytest.mark.slow
@pytest.mark.parametrize("fusion", list_fusions())
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_parameter_has_a_gradient(name, fusion):
    model = create_model(name, fusion, num_classes=3, **FAMILIES[name])
    # ImageNet's stems leave an eighth of the size for the last stage.
    size = 32 if name.startswith("resnet") else 8
    x = np.float32(np.random.default_rng(0).standard_normal((4, size, size, 1)))
    variables = random_variables(model, x, dtype=np.float32)

    def loss(params):
        logits, _ = model.apply({**variables, "params": params}, x, True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(logits))

    # Compiled for a single call: optimising takes longer than it saves.
    options = {"xla_backend_optimization_level": 0}
    in_front_of_norms = names_in_front_of_norms(name, fusion)
    gradients = jax.jit(jax.grad(loss), compiler_options=options)(variables["params"])
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        at = jax.tree_util.keystr(path)
        assert np.isfinite(gradient).all(), at
        moot = at.endswith("['bias']") and at.removesuffix("['bias']").endswith(in_front_of_norms)
        # Rounding leaves up to 3e-6 of a gradient that is zero. The scales in front of `concat`'s
        # own norm have hardly more, since that norm takes them away but for its epsilon.
        least = 1e-7 if fusion == "concat" else 1e-4
        assert moot or np.abs(gradient).max() > least, at


# Biases of the norms in front of a fusion that the next block's norm takes away, for that branch is
# added as it is. The others are read by attention, and weighed position by position.
MOOT_IN_INCEPTION = {
    "add": ("norm3x3", "norm5x5"),
    "concat": ("norm3x3", "norm5x5"),
    "se": ("norm5x5",),
    "ms_se": ("norm5x5",),
    "gau": ("norm3x3",),
    "ms_gau": ("norm3x3",),
}


def names_in_front_of_norms(name, fusion):
    """Ends of the paths of layers whose bias the next batch norm takes away: gradients of zero."""
    layers = ["['reduce']", "['expand']"]
    if name in ("cifar_resnet8", "inception8", "fpn_resnet20", "unet_resnet20"):
        layers.append("['project']")
        layers += [f"['{norm}']" for norm in MOOT_IN_INCEPTION.get(fusion, ())]
    elif fusion == "concat":  # which begins with a norm of both branches
        layers += ["['conv2']['norm']", "['conv3']['norm']", "['downsample']['norm']"]
    return tuple(layers)
