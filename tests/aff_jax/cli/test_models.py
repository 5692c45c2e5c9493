"""`aff-jax models`: names, families, and counts if asked for."""

import itertools

import jax

import aff_jax
from aff_jax.cli import main as cli


def test_models_lists_names_and_families_without_tracing_networks(monkeypatch, capsys):
    monkeypatch.setattr(jax, "eval_shape", None)
    assert cli.main(["models"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["model", "family"]
    assert sorted(row.split()[0] for row in rows) == aff_jax.list_models()
    assert "resnet50_v1d            ResNetV1d" in rows
    # Networks of a family follow each other.
    families = [family for family, _ in itertools.groupby(rows, lambda row: row.split()[1])]
    assert len(set(families)) == len(families)


def test_models_counts_parameters_and_operations_if_asked_for(capsys):
    command = ["models", "--filter=cifar_resnet8", "--input-size=32"]
    assert cli.main([*command, "--cost"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert "GFLOPs at 32x32" in header
    name, family, parameters, operations = row.split()
    # open-aff has 89,916 with 100 classes, and 65 fewer for each class that is missing.
    assert (name, family) == ("cifar_resnet8", "CIFARResNet")
    assert parameters == f"{89_916 - 90 * 65:,}"
    # The 3x3 convolutions have 12.2 million multiply-adds.
    assert 2 * 0.0122 <= float(operations) < 0.04
    assert cli.main([*command, "--parameters"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [name, family, parameters]
