"""Ten fusions at long skip connections on scenes of digits, three seeds each; needs no download.

    python -m train.compare --config=configs/compare_scenes.py --workdir=runs/compare_scenes

The network is `fpn_resnet20`, or a U-Net if `:unet_resnet20` follows the name of the file. A run
with `add` or `aff` takes 3 to 5 min on two CPU cores. The mean test mean IoU over the seeds is
77.1 % for `add`, 75.3 % for `aff` and 71.0 % for `iaff`; docs/results.md has the table. The other
fusions were not run.
"""

from ml_collections import ConfigDict

from configs import compare_digits, digit_scenes


def get_config(model: str = "fpn_resnet20") -> ConfigDict:
    config = digit_scenes.get_config()
    config.model = model
    # The fields that each variant changes, as in the comparison of short skip connections.
    config.variants = compare_digits.get_config().variants
    # The variant that the others are compared with, seed by seed.
    config.baseline = "add"
    # Every variant is trained with each of these seeds.
    config.seeds = (0, 1, 2)
    return config
