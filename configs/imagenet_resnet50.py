"""AFF in torchvision's ResNet-50 on ImageNet, with the recipe of the authors' v1d networks.

    python -m train --config=configs/imagenet_resnet50.py --workdir=runs/imagenet_resnet50

This is the network of open-aff's PyTorch port. No weights and no test accuracy were published for
it; its relative in `configs/imagenet_resnet50_v1d.py` has 79.7 %. Not trained here; the plan for 16
TPU chips (`v5e:4x4`, docs/plan.md) estimates 8.5 h.
"""

from ml_collections import ConfigDict

from configs import imagenet_resnet50_v1d


def get_config() -> ConfigDict:
    config = imagenet_resnet50_v1d.get_config()
    config.model = "resnet50"
    config.model_fields.zero_init_last_scale = True
    config.reference = "pytorch"
    return config
