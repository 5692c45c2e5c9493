"""Ten ways to fuse over long skips, each with three seeds, on scenes of digits; needs no network.

    python -m train.compare --config=configs/compare_scenes.py --workdir=runs/compare_scenes

segments with `fpn_resnet20`, and with U-Net where the file's name is followed by `:unet_resnet20`.
Six runs, `--only=add,aff`, of 3 to 5 min each on two CPU cores: test mean IoU 77.1 % for `add`,
75.3 % for `aff`, means over the seeds; the README has the table. All 30 were not run.
"""

from ml_collections import ConfigDict

from configs import compare_digits, digit_scenes


def get_config(model: str = "fpn_resnet20") -> ConfigDict:
    config = digit_scenes.get_config()
    config.model = model
    # What each variant changes: the same fusions over long skips as over short ones.
    config.variants = compare_digits.get_config().variants
    # Every variant is trained with each of these.
    config.seeds = (0, 1, 2)
    return config
