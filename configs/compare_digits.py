"""Ten ways to fuse, each with three seeds, on real handwritten digits; needs no network.

    python -m train.compare --config=configs/compare_digits.py --workdir=runs/compare_digits

30 runs of 15 to 30 s each, which makes less than 20 min on two CPU cores: an estimate from single
runs, the whole was not timed yet. The table has the test accuracy of each seed,
in %; `configs/digits.py` says what to expect of `add`, `aff` and `iaff`.
"""

from ml_collections import ConfigDict

from configs import digits


def get_config() -> ConfigDict:
    config = digits.get_config()
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
