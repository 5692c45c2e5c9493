"""AFF-ResNet-8 on 1,797 handwritten digits of 8x8 pixels; needs no download.

    python -m train --config=configs/digits.py --workdir=runs/digits

It takes 25 to 53 s on two CPU cores. The test accuracy, measured with this file, is 98.9 to 99.4 %
over seeds 0 to 2. `--config.fusion=iaff` reaches 98.9 % with each seed in 29 s, and `add` 99.2 to
99.4 % in 15 to 36 s. One test image is 0.28 %, and rounding differs between versions and machines:
seed 0 has reached 98.9 and 99.2 %.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.batch_size = 64
    config.crop_padding = 1
    return config
