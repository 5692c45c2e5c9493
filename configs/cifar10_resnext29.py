"""AFF-ResNeXt-29 32x4d on CIFAR-10, with the authors' recipe.

    python -m train --config=configs/cifar10_resnext29.py --workdir=runs/cifar10_resnext29

The published test accuracy is 97.05 % (open-aff, `params/cifar10/resnext29_32x4d_askc`, in the log
file beside the weights). Not trained here; the plan for four TPU chips (`v5e:2x2`,
docs/plan.md) estimates 47 min.
"""

from ml_collections import ConfigDict

from configs import cifar10_resnet32


def get_config() -> ConfigDict:
    config = cifar10_resnet32.get_config()
    config.model = "cifar_resnext29_32x4d"
    config.model_fields = ConfigDict()
    return config
