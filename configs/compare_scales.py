"""The paper's ablation of the scales of AFF, with three seeds each.

    python -m train.compare --config=configs/compare_scales.py --workdir=runs/compare_scales

This fuses at the short skip connections of `cifar_resnet8`. The 9 runs on handwritten digits take
3 min on two CPU cores. The mean test accuracy over the seeds is 99.2 % for `global+global`, 99.1 %
for `local+global` (AFF) and 98.4 % for `local+local`; docs/results.md has the table. All variants
have the same number of parameters. Another model can follow the name of the file. `:inception8`
fuses within the layers. `:fpn_resnet20` and `:unet_resnet20` fuse at long skip connections on
scenes of digits (test mean IoU), and a run takes ten times as long. These were not measured.
"""

from ml_collections import ConfigDict

from configs import base, digit_scenes, digits


def get_config(model: str = "cifar_resnet8") -> ConfigDict:
    config = digits.get_config()
    if model in base.SEGMENTATION_MODELS:
        config = digit_scenes.get_config()
    config.model = model
    # The fields that each variant changes, by the label of the variant.
    config.variants = ConfigDict(
        {
            "global+global": {"fusion_fields": {"scales": ("global", "global")}},
            "local+local": {"fusion_fields": {"scales": ("local", "local")}},
            "local+global": {"fusion_fields": {"scales": ("local", "global")}},
        }
    )
    # The variant that the others are compared with, seed by seed.
    config.baseline = "local+global"
    # Every variant is trained with each of these seeds.
    config.seeds = (0, 1, 2)
    return config
