"""Draw `parity_report.png`: the upper half of the page that `aff-jax compare --html` writes.

    .venv/bin/python docs/figures/parity_report.py

The script compares a ResNet-18 of the authors' PyTorch code, where AFF has a gain of 2, with one
that follows the paper. It needs the extras `torch` and `parity`, Pillow, and Chromium for the
picture.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from PIL import Image, ImageOps  # noqa: E402

from aff_jax.cli.main import main as aff_jax_command  # noqa: E402

WIDTH, HEIGHT = 860, 765
NETWORK = """\
import torch
from tests.reference import torch_aff

def make_model():
    torch.manual_seed(0)
    return torch_aff.ResNet(torch_aff.basic_block, (2, 2, 2, 2), num_classes=10)
"""
"""A file with the PyTorch network."""


def main(chromium: str, target: Path = HERE / "parity_report.png") -> None:
    """Compare the two networks, and write a picture of the page.

    Args:
        chromium: The program that draws the page.
        target: Where to write the picture.
    """
    with tempfile.TemporaryDirectory() as folder:
        code, page, picture = (Path(folder, name) for name in ("net.py", "a.html", "a.png"))
        code.write_text(NETWORK)
        fields = "--model resnet18 --fusion aff --reference paper --num-classes 10 --float64"
        status = aff_jax_command(
            ["compare", f"{code}:make_model", *fields.split(), f"--html={page}"]
        )
        assert status == 1, "the two references should differ"
        # The table of versions and inputs would take half of the picture.
        text = page.read_text().replace(f"{folder}/", "")
        before, _, rest = text.partition("<h2>What was compared</h2>")
        page.write_text(before + "<h2>Errors</h2>" + rest.partition("<h2>Errors</h2>")[2])
        subprocess.run(
            [
                chromium,
                "--headless",
                "--no-sandbox",
                "--hide-scrollbars",
                f"--window-size={WIDTH},{HEIGHT}",
                f"--screenshot={picture}",
                str(page),
            ],
            check=True,
            capture_output=True,
        )
        # A palette makes the file several times smaller.
        framed = ImageOps.expand(Image.open(picture).convert("RGB"), 2, "#999999")
        framed.quantize(64).save(target, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chromium", default="chromium")
    main(parser.parse_args().chromium)
