"""AFF-ResNet-8 on 1,797 real handwritten digits of 8x8 pixels; needs no network.

    python -m train --config=configs/digits.py --workdir=runs/digits

25 s on two CPU cores; test accuracy 98.9 % (seed 0), 98.9 to 99.4 % over seeds 0 to 2, measured
with this file; `--config.fusion=iaff` 98.9 % three times in 29 s, `add` 99.2 to 99.4 % in 15 s. One
test image is 0.28 %.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.batch_size = 64
    config.crop_padding = 1
    return config
