"""AFF-ResNet-32 with width 4 on CIFAR-10, with the authors' recipe.

    python -m train --config=configs/cifar10_resnet32.py --workdir=runs/cifar10_resnet32

The published test accuracy is 96.26 % (open-aff, `params/cifar10/resnet-32-askc-host/r = 4`, in the
log file beside the weights). Not trained here; the plan for four TPU chips (`v5e:2x2`,
docs/plan.md) estimates 25 min. A smoke run of 50 steps with
`--config.batch_size=32 --config.epochs=0.032 --config.decay_epochs='()'
--config.mix_off_epochs=0.0` takes 5.6 min on two CPU cores and reaches 17.5 % test accuracy.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.model = "cifar_resnet32"
    config.model_fields.width = 4
    config.reference = "mxnet"
    config.dataset = "cifar10"
    config.crop_padding = 4
    config.flip = True
    config.mixup_alpha = 1.0
    config.mix_off_epochs = 20.0
    config.epochs = 400.0
    config.learning_rate = 0.2
    config.warmup_epochs = 0.0
    config.schedule = "constant"
    config.decay_epochs = (300.0, 350.0)
    config.weight_decay_mask = "all"
    return config
