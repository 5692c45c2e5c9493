"""AFF-ResNet-8 on CIFAR-10 in eight epochs: small enough for two CPU cores.

    python -m train --config=configs/cifar10_resnet8.py --workdir=runs/cifar10_resnet8

HEADER
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.reference = "mxnet"
    config.dataset = "cifar10"
    config.crop_padding = 4
    config.flip = True
    config.epochs = 8.0
    config.decayed = "all"
    config.eval_every_epochs = 1.0
    return config
