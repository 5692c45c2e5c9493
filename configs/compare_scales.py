"""The contexts that AFF may read, each with three seeds: the paper's ablation, on digits.

    python -m train.compare --config=configs/compare_scales.py --workdir=runs/compare_scales

9 runs of about 25 s each, which makes 4 min on two CPU cores: an estimate from single runs, the
whole was not timed yet. The table has the test accuracy of each seed, in %; `local+global` is
`configs/digits.py`, which says what to expect. All have the same number of parameters.
"""

from ml_collections import ConfigDict

from configs import digits


def get_config() -> ConfigDict:
    config = digits.get_config()
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
