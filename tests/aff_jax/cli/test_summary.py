"""`aff-jax summary`: the layers of a network."""

from aff_jax.cli import main as cli


def test_summary_prints_every_layer(capsys):
    assert cli.main(["summary", "cifar_resnet8", "--num-classes=10", "--input-size=8"]) == 0
    printed = capsys.readouterr().out
    assert "stage3_block0/fuse" in printed
    assert "Total Parameters" in printed


def test_gray_images_have_their_own_summary(capsys):
    flags = ["--channels=1", "--num-classes=10", "--input-size=8", "--fusion=add"]
    assert cli.main(["summary", "cifar_resnet8", *flags]) == 0
    assert "[1,8,8,1]" in capsys.readouterr().out
