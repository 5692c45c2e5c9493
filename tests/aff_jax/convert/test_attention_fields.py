"""Fields of the branches of attention, against PyTorch: biases, hidden channels and norms."""

import functools
import json

import flax.linen as nn
import jax
import numpy as np
import pytest
import torch
from flax import nnx

import aff_jax
from aff_jax.convert import from_torch, to_torch
from aff_jax.description import describe_model, model_from_description
from aff_jax.inference import freeze
from tests.aff_jax.convert.states import assert_same, channels_first, images, randomized
from tests.aff_jax.random_variables import random_variables

pytestmark = pytest.mark.slow

CHANNELS = 8
SHAPE = (3, 4, 5, CHANNELS)
GROUPS = functools.partial(nn.GroupNorm, num_groups=2, epsilon=1e-5)

# Fields of our modules, and for PyTorch the hidden channels, biases and the norm of each scale.
FIELDS = {
    "no biases": ({"use_bias": False}, 2, False, (torch.nn.BatchNorm2d,) * 2),
    "a number of hidden channels": ({"hidden": 5}, 5, True, (torch.nn.BatchNorm2d,) * 2),
    "a rule for hidden channels": (
        {"hidden": lambda channels: max(channels // 4, 6)},
        6,
        True,
        (torch.nn.BatchNorm2d,) * 2,
    ),
    "no norms": ({"norm": None}, 2, True, (None, None)),
    "a norm of one branch": (
        {"norm": (aff_jax.BatchNorm, None), "use_bias": False},
        2,
        False,
        (torch.nn.BatchNorm2d, None),
    ),
    "group norm": (
        {"norm": GROUPS},
        2,
        True,
        (functools.partial(torch.nn.GroupNorm, 2),) * 2,
    ),
}


class Branches(torch.nn.Module):
    """Branches in the layout of open-aff, with any of the fields."""

    def __init__(self, hidden, use_bias, norms, iterations=1):
        super().__init__()
        for suffix in ("", "2")[:iterations]:
            for scale, norm in zip(("local", "global"), norms, strict=True):
                layers = [
                    torch.nn.AdaptiveAvgPool2d(1) if scale == "global" else None,
                    torch.nn.Conv2d(CHANNELS, hidden, 1, bias=use_bias),
                    norm and norm(hidden),
                    torch.nn.ReLU(),
                    torch.nn.Conv2d(hidden, CHANNELS, 1, bias=use_bias),
                    norm and norm(CHANNELS),
                ]
                branch = torch.nn.Sequential(*[layer for layer in layers if layer is not None])
                setattr(self, f"{scale}_att{suffix}", branch)

    def m(self, z, suffix=""):
        branches = [getattr(self, f"{scale}_att{suffix}") for scale in ("local", "global")]
        return torch.sigmoid(branches[0](z) + branches[1](z))


def mscam(branches, x, y):
    return x * branches.m(x)


def aff(branches, x, y):
    m = branches.m(x + y)
    return x * m + y * (1 - m)


def iaff(branches, x, y):
    m = branches.m(aff(branches, x, y), "2")
    return x * m + y * (1 - m)


def se(branches, x, y):
    return y + branches.m(x) * x


MODULES = {
    "mscam": (aff_jax.MSCAM, 1, mscam),
    "aff": (aff_jax.AFF, 2, aff),
    "iaff": (aff_jax.IAFF, 2, iaff),
    "ms_se": (functools.partial(aff_jax.create_fusion, "ms_se"), 2, se),
}


@pytest.mark.parametrize("fields", FIELDS)
@pytest.mark.parametrize("name", MODULES)
def test_fields_agree_with_pytorch(name, fields):
    make, inputs, formula = MODULES[name]
    ours, hidden, use_bias, norms = FIELDS[fields]
    theirs = randomized(Branches(hidden, use_bias, norms, iterations=2 if name == "iaff" else 1))
    state = {key: value.numpy() for key, value in theirs.double().state_dict().items()}
    with jax.enable_x64(True):
        x, y = (images(*SHAPE, seed=seed).astype(np.float64) for seed in (1, 2))
        module = make(**ours, param_dtype=np.float64)
        variables = from_torch(state, module, *(x, y)[:inputs])
        with torch.no_grad():
            expected = formula(theirs, channels_first(x), channels_first(y))
        output = module.apply(variables, *(x, y)[:inputs])
        expected = expected.movedim(1, -1).numpy()
        np.testing.assert_allclose(output, expected, rtol=0, atol=1e-12)
        assert_same(to_torch(variables, module, *(x, y)[:inputs]), state)


@pytest.mark.parametrize("fields", ["no biases", "no norms", "a norm of one branch", "group norm"])
def test_shortcuts_agree_with_the_formula_in_training(fields):
    ours = FIELDS[fields][0]
    with jax.enable_x64(True):
        x, y = (images(4, 6, 6, CHANNELS, seed=seed).astype(np.float64) for seed in (1, 2))
        variables = random_variables(aff_jax.AFF(**ours), x, y)

        def loss(params, implementation):
            module = aff_jax.AFF(**ours, implementation=implementation)
            given = {**variables, "params": params}
            output, new = module.apply(given, x, y, train=True, mutable=["batch_stats"])
            return (output**2).sum(), new

        results = [
            jax.value_and_grad(loss, has_aux=True)(variables["params"], implementation)
            for implementation in ("auto", "plain")
        ]
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), *results
        )


@pytest.mark.parametrize(
    "fields",
    [
        {"use_bias": False, "hidden": 5},
        {"norm": (aff_jax.BatchNorm, None)},
        {"norm": (None, functools.partial(nn.GroupNorm, num_groups=2))},
        {"norm": None},
    ],
)
def test_fields_are_stored_frozen_and_bridged(fields, tmp_path):
    module, x, y = aff_jax.AFF(**fields), images(*SHAPE), images(*SHAPE, seed=1)
    again = model_from_description(json.loads(json.dumps(describe_model(module))))
    assert describe_model(again) == describe_model(module)
    variables = random_variables(module, x, y, dtype=np.float32)
    expected = module.apply(variables, x, y)
    aff_jax.save(tmp_path / "aff.safetensors", variables, module)
    loaded, loaded_variables = aff_jax.load(tmp_path / "aff.safetensors")
    np.testing.assert_array_equal(loaded.apply(loaded_variables, x, y), expected)
    # Folding rounds once more, in float32.
    frozen = freeze(module, variables, x, y)
    np.testing.assert_allclose(frozen(x, y), expected, rtol=1e-5, atol=1e-5)
    bridge = nnx.bridge.ToNNX(module, rngs=nnx.Rngs(0)).lazy_init(x, y)
    assert bridge(x, y).shape == SHAPE


def test_a_rule_for_hidden_channels_cannot_be_stored():
    with pytest.raises(ValueError, match=r"AFF.hidden is .*cannot be stored"):
        describe_model(aff_jax.AFF(hidden=lambda channels: 4))


def test_a_norm_of_a_later_branch_of_the_same_scale():
    module = aff_jax.AFF(scales=("local", "local"), norm=(None, aff_jax.BatchNorm))
    x = images(*SHAPE)
    state = to_torch(random_variables(module, x, x), module, x, x)
    assert {"local_att.0.weight", "local_att.2.weight"} < state.keys()
    assert {"local_att2.1.running_mean", "local_att2.3.weight"} < state.keys()
    assert "local_att.3.weight" not in state


def test_concatenation_without_a_norm():
    module, x = aff_jax.create_fusion("concat", norm=None), images(*SHAPE)
    variables = module.init(jax.random.key(0), x, x)
    assert variables["params"].keys() == {"project"}
