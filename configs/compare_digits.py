"""Ten ways to fuse, each with three seeds, on real handwritten digits; needs no network.

    python -m train.compare --config=configs/compare_digits.py --workdir=runs/compare_digits

fuses at the short skips of `cifar_resnet8`: 30 runs in 9 min 47 s on two CPU cores; test accuracy
99.3 % for `add`, 99.1 % for `aff`, 98.4 to 99.1 % for the others, means over the seeds; the README
has the table. A host may follow the file's name, and `:inception8` fuses within the layers instead,
which was not measured:

    python -m train.compare --config=configs/compare_digits.py:inception8 --workdir=runs/same_layer
"""

from ml_collections import ConfigDict

from configs import digits


def get_config(model: str = "cifar_resnet8") -> ConfigDict:
    config = digits.get_config()
    config.model = model
    # What each variant changes, by its label: any of the other fields.
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
    # Every variant is trained with each of these.
    config.seeds = (0, 1, 2)
    return config
