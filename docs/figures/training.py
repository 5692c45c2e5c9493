"""Copy pictures of `make train` to `curves.png` and `confusion.png`, as small files.

    .venv/bin/python docs/figures/training.py

The script trains `configs/digits.py` for half a minute on two CPU cores. It needs the extra
`train`.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
PICTURES = ("curves.png", "confusion.png")


def main(*flags: str, target: Path = HERE) -> None:
    """Train, and write the pictures.

    Args:
        flags: More flags of `python -m train`.
        target: Directory of the pictures.
    """
    with tempfile.TemporaryDirectory() as workdir:
        command = ["-m", "train", "--config=configs/digits.py", f"--workdir={workdir}", *flags]
        subprocess.run([sys.executable, *command], cwd=HERE.parent.parent, check=True)
        for name in PICTURES:
            # A palette makes the file several times smaller.
            picture = Image.open(Path(workdir, name)).convert("RGB").quantize(64)
            picture.save(target / name, optimize=True)


if __name__ == "__main__":
    main()
