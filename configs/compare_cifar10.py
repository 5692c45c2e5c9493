"""Addition, AFF and iAFF on CIFAR-10, each with three seeds, eight epochs each.

    python -m train.compare --config=configs/compare_cifar10.py --workdir=runs/compare_cifar10

HEADER
"""

from ml_collections import ConfigDict

from configs import cifar10_resnet8


def get_config(model: str = "cifar_resnet8") -> ConfigDict:
    config = cifar10_resnet8.get_config()
    config.model = model
    # What each variant changes, by its label: any of the other fields.
    config.variants = ConfigDict(
        {"add": {"fusion": "add"}, "aff": {"fusion": "aff"}, "iaff": {"fusion": "iaff"}}
    )
    # Every variant is trained with each of these.
    config.seeds = (0, 1, 2)
    return config
