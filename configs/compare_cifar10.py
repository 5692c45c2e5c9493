"""Fusions of `cifar_resnet8` on CIFAR-10, each with three seeds, 20 epochs each.

    python -m train.compare --config=configs/compare_cifar10.py --workdir=runs/compare_cifar10

`--only=add,aff,iaff` trains the three main fusions, `--only=aff,global+global,local+local` the
paper's ablation of the scales. Another model may follow the file's name: `:inception8` fuses within
a layer, `:cifar_resnet20` is deeper. A run takes about 40 minutes on two slow CPU cores. The
comparison can be stopped and resumes where it stopped.
"""

from ml_collections import ConfigDict

from configs import cifar10_resnet8


def get_config(model: str = "cifar_resnet8") -> ConfigDict:
    config = cifar10_resnet8.get_config()
    config.model = model
    config.epochs = 20.0
    config.eval_every_epochs = 5.0
    # What each variant changes, by its label: any of the other fields.
    config.variants = ConfigDict(
        {
            "add": {"fusion": "add"},
            "aff": {"fusion": "aff"},
            "iaff": {"fusion": "iaff"},
            "global+global": {"fusion_fields": {"scales": ("global", "global")}},
            "local+local": {"fusion_fields": {"scales": ("local", "local")}},
            "se": {"fusion": "se"},
            "sk": {"fusion": "sk"},
        }
    )
    # Every variant is trained with each of these.
    config.seeds = (0, 1, 2)
    return config
