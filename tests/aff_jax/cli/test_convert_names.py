"""`aff-jax convert` renames by patterns and drops ignored arrays."""

import argparse
import re

import jax
import numpy as np
import pytest
import torch

import aff_jax
from aff_jax.cli import main as cli
from aff_jax.cli.renames import parse_renames

NETWORK = ["--model=cifar_resnet8", "--num-classes=3", "--field=blocks_per_stage=(0,0,0)"]


def test_convert_renames_by_patterns_and_ignores_buffers(tmp_path, capsys):
    model = aff_jax.create_model("cifar_resnet8", num_classes=3, blocks_per_stage=(0, 0, 0))
    variables = model.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    state = aff_jax.convert.to_torch(variables, model)
    renamed = {f"{n.replace('head.', 'fc_')}": torch.from_numpy(a) for n, a in state.items()}
    source, target = tmp_path / "w.pth", tmp_path / "w.safetensors"
    torch.save({**renamed, "stem.mask": torch.ones(2)}, source)
    command = ["convert", str(source), str(target), *NETWORK, r"--rename=re:^fc_(?=\w)=head."]
    assert cli.main(command) == 2
    assert "--ignore=stem.mask" in capsys.readouterr().err
    assert cli.main([*command, "--ignore=*.mask"]) == 0
    jax.tree.map(np.testing.assert_array_equal, aff_jax.load(target)[1], dict(variables))
    assert cli.main(["convert", str(target), str(tmp_path / "back.pth"), "--ignore=a"]) == 2
    assert "remove --ignore" in capsys.readouterr().err


def test_a_rename_may_be_a_regular_expression():
    flags = argparse.Namespace(rename=["a.=b.", "re:(?=x)y=z="])
    with pytest.raises(ValueError, match="not a valid regular expression"):
        parse_renames(argparse.Namespace(rename=["re:(=b"]))
    assert parse_renames(flags) == {"a": "b", re.compile("(?=x)y=z"): ""}
