"""`aff-jax models`: numbers of parameters and operations."""

from aff_jax.cli import main as cli


def test_models_lists_parameters_and_operations(capsys):
    assert cli.main(["models", "--filter=cifar_resnet8", "--input-size=32"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert "GFLOPs at 32x32" in header
    name, parameters, operations = row.split()
    # open-aff has 89,916 with 100 classes; 900 more classes have 65 parameters each.
    assert (name, parameters) == ("cifar_resnet8", f"{89_916 + 900 * 65:,}")
    # The 3x3 convolutions have 12.4 million multiply-adds.
    assert 2 * 0.0124 <= float(operations) < 0.04
