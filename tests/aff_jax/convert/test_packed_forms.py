"""The form of a layer is the one whose names a checkpoint has."""

from aff_jax.convert.packed_forms import Form, select_forms

FUSED = Form({"in_proj_weight": ("query.weight", "key.weight")})
LINEAR = Form({"q_proj.weight": ("query.weight",), "k_proj.weight": ("key.weight",)})
PLAIN = Form({"query.weight": ("query.weight",), "key.weight": ("key.weight",)})
LAYERS = [[FUSED, LINEAR, PLAIN]]


def test_names_select_the_form():
    assert select_forms(LAYERS, ["in_proj_weight"]) == [FUSED]
    assert select_forms(LAYERS, ["q_proj.weight", "k_proj.weight"]) == [LINEAR]
    assert select_forms(LAYERS, ["query.weight", "key.weight"]) == []


def test_prefixes_select_the_form_without_names():
    assert select_forms(LAYERS, []) == [FUSED]
    assert select_forms(LAYERS, [], ["q_proj"]) == [LINEAR]
