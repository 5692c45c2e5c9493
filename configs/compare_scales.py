"""The contexts that AFF may read, each with three seeds: the paper's ablation.

    python -m train.compare --config=configs/compare_scales.py --workdir=runs/compare_scales

fuses at the short skips of `cifar_resnet8`: 9 runs on handwritten digits, 3 min on two CPU cores.
All variants have the same number of parameters; the README has the table of their test accuracy. A
host may follow the file's name: `:inception8` fuses within the layers, and the long skips of
`:fpn_resnet20` and `:unet_resnet20` are compared on scenes of digits (test mean IoU, ten times as
long a run).
"""

from ml_collections import ConfigDict

from configs import digit_scenes, digits


def get_config(model: str = "cifar_resnet8") -> ConfigDict:
    config = digits.get_config()
    if model in ("fpn_resnet20", "unet_resnet20"):
        config = digit_scenes.get_config()
    config.model = model
    # What each variant changes, by its label: any of the other fields.
    config.variants = ConfigDict(
        {
            "global+global": {"fusion_fields": {"scales": ("global", "global")}},
            "local+local": {"fusion_fields": {"scales": ("local", "local")}},
            "local+global": {"fusion_fields": {"scales": ("local", "global")}},
        }
    )
    # Every variant is trained with each of these.
    config.seeds = (0, 1, 2)
    return config
