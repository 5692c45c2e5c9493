"""AFF-ResNet-50 v1d on ImageNet, with the authors' recipe; `--config.fusion=iaff` for iAFF.

    python -m train --config=configs/imagenet_resnet50_v1d.py --workdir=runs/imagenet_resnet50_v1d

The published top-1 error at the best epoch is 20.3 %, a test accuracy of 79.7 %; iAFF has 20.2 %
(open-aff, README and `params/imagenet`). The recipe is the authors' except for bfloat16. Not
trained here; the plan for 16 TPU chips (`v5e:4x4`, docs/plan.md) estimates 6.2 h. On one device
`--config.accumulation=4` keeps 128 images per batch of batch normalization, as on the authors'
four devices.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.model = "resnet50_v1d"
    config.reference = "mxnet"
    config.dataset = "imagenet2012"
    config.image_size = 224
    config.random_resized_crop = True
    config.flip = True
    config.autoaugment = "imagenet"
    config.color_jitter = 0.4
    config.pca_lighting = 0.1
    config.mixup_alpha = 0.2
    config.mix_off_epochs = 5.0
    config.label_smoothing = 0.1
    config.batch_size = 512
    config.epochs = 240.0
    config.learning_rate = 0.075
    config.warmup_epochs = 5.0
    config.sync_batch_norm = False
    config.dtype = "bfloat16"
    config.data_workers = 12  # Use about the number of free CPU cores.
    config.eval_every_epochs = 1.0
    return config
