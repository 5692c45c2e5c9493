"""Networks that files of the user create."""

import flax.linen as nn
import pytest

from aff_jax.cli.user_code import make_linen_module, make_torch_module

FILE = """
import flax.linen as nn
import torch

def dense():
    return nn.Dense(3)

def pair():
    return nn.Dense(3), {"params": {}}

def linear():
    return torch.nn.Linear(2, 3)

def fails():
    raise KeyError("width")
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def test_makes_modules_and_variables(file):
    assert make_linen_module(f"{file}:dense") == (nn.Dense(3), None)
    assert make_linen_module(f"{file}:pair") == (nn.Dense(3), {"params": {}})
    assert make_torch_module(f"{file}:linear", None).out_features == 3


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        (make_linen_module, "linear", "expected a flax.linen.Module"),
        (lambda text: make_torch_module(text, None), "dense", "expected a torch.nn.Module"),
        (make_linen_module, "fails", "raised KeyError: 'width'"),
        (make_linen_module, "absent", "does not define 'absent'"),
    ],
)
def test_errors_name_what_was_expected(file, make, name, message):
    with pytest.raises(ValueError, match=message):
        make(f"{file}:{name}")
