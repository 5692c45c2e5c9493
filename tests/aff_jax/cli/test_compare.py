"""`aff-jax compare`: equal and different networks, reports, and missing files."""

import json
from unittest.mock import Mock

from aff_jax.cli import main as cli
from tests.aff_jax.cli.pytorch_network import MAKER, RESNET


def test_compare_finds_equal_and_different_networks(checkpoint, tmp_path, capsys):
    maker = tmp_path / "maker.py"
    maker.write_text(MAKER)
    report, page = tmp_path / "report.json", tmp_path / "report.html"
    command = ["compare", f"{maker}:make", f"--checkpoint={checkpoint}", "--input-size=24"]
    files = [f"--json={report}", f"--html={page}"]
    assert cli.main([*command, *RESNET, *files]) == 0
    assert "Equal: " in capsys.readouterr().out
    assert json.loads(report.read_text())["equal"] is True
    assert "<svg" in page.read_text()

    wrong = [flag.replace("pytorch", "paper") for flag in RESNET]
    assert cli.main([*command, *wrong, "--float64", *files]) == 1
    assert "This is pass 2 of the fusion stage1_block0/fuse" in capsys.readouterr().out
    assert json.loads(report.read_text())["first_mismatch"]["path"].startswith(
        "stage1_block0/fuse/global2"
    )


def test_compare_rejects_missing_files(capsys):
    assert cli.main(["compare", "nothing.py:make", "--model=resnet18"]) == 2
    assert "expected FILE.py:CALLABLE" in capsys.readouterr().err


def test_compare_draws_images_with_the_channels_of_the_network(tmp_path, monkeypatch):
    maker = tmp_path / "maker.py"
    maker.write_text(
        "import torch\n"
        "class Gray(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.conv1 = torch.nn.Conv2d(1, 8, 7)\n"
    )
    compared = Mock(side_effect=ValueError)
    monkeypatch.setattr("aff_jax.parity.compare", compared)
    assert cli.main(["compare", f"{maker}:Gray", *RESNET]) == 2
    assert compared.call_args.args[3].shape == (2, 64, 64, 1)
