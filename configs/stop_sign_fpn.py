"""AFF in an FPN on the stop signs of COCO, the paper's dataset for long skip connections.

    python -m train --config=configs/stop_sign_fpn.py --workdir=runs/stop_sign_fpn

AdaGrad with learning rate 0.01, the "poly" schedule, batch size 32, 300 epochs and Kaiming
initialization are the paper's settings (table 2). Its mean IoU with AFF is 93.9 % for this depth
(table 4). The paper does not say which images of COCO it uses, so the test mean IoU may differ. Not
trained here; the plan for four TPU chips (`v5e:2x2`, docs/plan.md) estimates 56 min.
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
