"""Ten fusions on handwritten digits, with three seeds each; needs no download.

    python -m train.compare --config=configs/compare_digits.py --workdir=runs/compare_digits

This fuses at the short skip connections of `cifar_resnet8`. The 30 runs take 9 min 47 s on two CPU
cores. The mean test accuracy over the seeds is 99.3 % for `add`, 99.1 % for `aff`, and
98.4 to 99.4 % for the others; docs/results.md has the table. Another model can follow the name of
the file. `:inception8` fuses within the layers, which was not measured:

    python -m train.compare --config=configs/compare_digits.py:inception8 --workdir=runs/same_layer
"""

from ml_collections import ConfigDict

from configs import digits


def get_config(model: str = "cifar_resnet8") -> ConfigDict:
    config = digits.get_config()
    config.model = model
    # The fields that each variant changes, by the label of the variant.
    config.variants = ConfigDict(
        {
            "add": {"fusion": "add"},
            "concat": {"fusion": "concat"},
            "se": {"fusion": "se"},
            "ms_se": {"fusion": "ms_se"},
            "gau": {"fusion": "gau"},
            "ms_gau": {"fusion": "ms_gau"},
            "highway": {"fusion": "highway"},
            "sk": {"fusion": "sk"},
            "aff": {"fusion": "aff"},
            "iaff": {"fusion": "iaff"},
        }
    )
    # The variant that the others are compared with, seed by seed.
    config.baseline = "add"
    # Every variant is trained with each of these seeds.
    config.seeds = (0, 1, 2)
    return config
