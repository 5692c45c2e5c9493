"""Five fusions and two other scales of AFF in `cifar_resnet8` on CIFAR-10, with three seeds.

    python -m train.compare --config=configs/compare_cifar10.py --workdir=runs/compare_cifar10

One of the 21 runs takes 14 min with `aff` on two CPU cores with other load; the others were not
timed. The mean test accuracy over the seeds is 75.6 % for `add`, 76.1 % for `aff` and 76.6 % for
`iaff`; docs/results.md has the table.

`--only=add,aff,iaff` trains the three main fusions, and `--only=aff,global+global,local+local`
trains the paper's ablation of the scales. Another model can follow the name of the file:
`:inception8` fuses within a layer, and `:cifar_resnet20` is deeper. A comparison that was stopped
resumes with the same command.
"""

from ml_collections import ConfigDict

from configs import cifar10_resnet8


def get_config(model: str = "cifar_resnet8") -> ConfigDict:
    config = cifar10_resnet8.get_config()
    config.model = model
    config.eval_every_epochs = 2.0
    # The fields that each variant changes, by the label of the variant.
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
    # The variant that the others are compared with, seed by seed.
    config.baseline = "add"
    # Every variant is trained with each of these seeds.
    config.seeds = (0, 1, 2)
    return config
