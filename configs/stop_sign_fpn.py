"""AFF in an FPN on the stop signs of COCO: the paper's data set for long skips.

    python -m train --config=configs/stop_sign_fpn.py --workdir=runs/stop_sign_fpn

Adagrad at 0.01, poly, batch 32, 300 epochs and Kaiming's initialisation are the paper's (table 2);
its mean IoU with AFF is 93.9 % for this depth (table 4). Which images of COCO it took is not known,
so a test mean IoU here need not be the same. Not trained here, and how many h that takes was not
measured.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.model = "fpn_resnet20"
    config.kernel_init = "he"
    config.dataset = "stop_sign"
    config.image_size = 480
    config.flip = True
    config.batch_size = 32
    config.eval_batch_size = 32
    config.epochs = 300.0
    config.learning_rate = 0.01
    config.warmup_epochs = 0.0
    config.schedule = "poly"
    config.optimizer = "adagrad"
    return config
