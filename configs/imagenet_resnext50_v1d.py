"""AFF-ResNeXt-50 32x4d v1d on ImageNet, with the authors' recipe; `--config.fusion=iaff` for iAFF.

    python -m train --config=configs/imagenet_resnext50_v1d.py --workdir=runs/imagenet_resnext50_v1d

The published top-1 error at the best epoch is 20.3 %, a test accuracy of 79.7 %; iAFF has 19.8 %
(open-aff, README and `params/imagenet`). The recipe is as in `configs/imagenet_resnet50_v1d.py`.
Not trained here; the plan for 16 TPU chips (`v5e:4x4`, docs/plan.md) estimates 13.8 h.
"""

from ml_collections import ConfigDict

from configs import imagenet_resnet50_v1d


def get_config() -> ConfigDict:
    config = imagenet_resnet50_v1d.get_config()
    config.model = "resnext50_32x4d_v1d"
    return config
