"""Names of layers of attention, by their paths. Expected names are those of open-aff."""

import jax.numpy as jnp
import pytest

from aff_jax import AFF, IAFF
from aff_jax.convert.rules import MXNET, PYTORCH, Framework
from aff_jax.inspection import Layer, Structure, inspect_module
from tests.aff_jax.hosts.families import small

X = jnp.zeros((2, 3, 3, 8))


def structure_of(module):
    """Return a structure that has the module itself only, which is enough for its own rules."""
    return Structure({(): Layer(module, 2)}, {})


def name_of(framework, module, path):
    return framework.name_of(tuple(path.split("/")), structure_of(module))


@pytest.mark.parametrize("framework", [PYTORCH, MXNET])
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("local", "local_att"),
        ("local/reduce", "local_att.0"),
        ("local/reduce_norm", "local_att.1"),
        ("local/expand", "local_att.3"),
        ("local/expand_norm", "local_att.4"),
        ("global/reduce", "global_att.1"),
        ("global2/expand_norm", "global_att2.5"),
        ("sigmoid", "sigmoid"),
    ],
)
def test_layers_of_a_branch_have_their_positions_in_the_sequential(framework, path, name):
    assert name_of(framework, IAFF(), path) == name


def test_a_fusion_inside_a_network_has_the_names_of_its_own_table():
    structure = inspect_module(small("cifar_resnet8"), (jnp.zeros((1, 8, 8, 3)),))
    path = ("stage2_block0", "fuse", "global", "expand")
    assert MXNET.name_of(path, structure) == "features.3.0.attention.global_att.4"


def test_a_component_without_a_rule_keeps_its_name():
    framework = Framework("any", {AFF: lambda _: [("a/b", "c"), ("a", "d")]}, {}, {})
    names = {path: name_of(framework, AFF(), path) for path in ("a", "a/b", "a/x", "x/a/b")}
    # The longest prefix that a rule matches is replaced. Rules apply at the module itself only.
    assert names == {"a": "d", "a/b": "c", "a/x": "d.x", "x/a/b": "x.a.b"}
    assert framework.name_of((), structure_of(AFF())) == ""
