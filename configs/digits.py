"""AFF-ResNet-8 on 1,797 real handwritten digits of 8x8 pixels; needs no network.

python -m train --config=configs/digits.py --workdir=runs/digits

"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.model_fields.width = 1
    config.batch_size = 64
    config.crop_padding = 1
    return config
