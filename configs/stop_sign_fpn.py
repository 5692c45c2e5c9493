"""AFF in an FPN on the stop signs of COCO: the paper's data set for long skips.

    python -m train --config=configs/stop_sign_fpn.py --workdir=runs/stop_sign_fpn

Adagrad and the poly schedule are the paper's; it gives neither the number of epochs nor the rate
that its figures come from, and those here are a choice that was not tried at length. There is no
test mean IoU to compare with: HEADER
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.model = "fpn_resnet20"
    config.dataset = "stop_sign"
    config.image_size = 480
    config.flip = True
    config.batch_size = 32
    config.eval_batch_size = 32
    config.epochs = 300.0
    config.learning_rate = 0.05
    config.warmup_epochs = 0.0
    config.schedule = "poly"
    config.optimizer = "adagrad"
    return config
