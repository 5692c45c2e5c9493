"""The examples of CONTRIBUTING, put where it says, do what it says."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aff_jax import create_fusion, create_model
from aff_jax.fusion import baselines
from aff_jax.fusion.registry import FUSIONS
from aff_jax.hosts import pre_activation
from aff_jax.hosts.registry import HOSTS
from tests.docs.documents import DOCUMENTS, blocks

EXAMPLES = [code for language, code in blocks(DOCUMENTS["CONTRIBUTING.md"]) if language == "text"]


def add(monkeypatch, table, home, code, row):
    """What the class in `code`, written in the module `home`, and a row of `table` come to."""
    namespace = {**vars(home), "partial": functools.partial}
    exec(code, namespace)
    for name, made in eval(f"{{{row}}}", namespace).items():
        monkeypatch.setitem(table, name, made)


@pytest.fixture
def examples(monkeypatch):
    fusion, fusion_row, host, host_row = EXAMPLES
    add(monkeypatch, FUSIONS, baselines, fusion, fusion_row)
    add(monkeypatch, HOSTS, pre_activation, host, host_row)


@pytest.mark.usefixtures("examples")
def test_the_fusion_is_its_formula():
    x, y = np.random.default_rng(0).standard_normal((2, 4, 3, 6), np.float32)
    np.testing.assert_array_equal(create_fusion("maximum").apply({}, x, y), np.maximum(x, y))


@pytest.mark.usefixtures("examples")
def test_the_host_takes_the_fusion():
    model = create_model("wide_stem_resnet8", "maximum", num_classes=7)
    images = jnp.ones((2, 8, 8, 1))
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    assert logits.shape == (2, 7)
    assert variables["params"]["stem"]["kernel"].shape == (5, 5, 1, 16)
