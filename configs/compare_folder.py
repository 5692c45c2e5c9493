r"""Addition, AFF and iAFF on your own images, with three seeds each.

    python -m train.compare --config=configs/compare_folder.py --workdir=runs/compare_folder \
        --config.data_dir=PATH

PATH is a folder as in `configs/image_folder.py`, and the table has the test accuracy. For a folder
of masks, as in `configs/mask_folder.py`, let a network for segmentation follow the name of the
file: `:fpn_resnet20` or `:unet_resnet20`. The table then has the test mean IoU. `--only=add,aff`
leaves out iAFF, and `--config.epochs=50` trains for longer.

For example, scikit-learn's 1,797 digits as PNG files have a test accuracy of 98.1 % with `add` and
96.4 % with `aff` (seed 0; `iaff` was not run). One test image is 0.28 %. A run took 19 to 26 min on
two CPU cores that other programs used too; `configs/image_folder.py` has a shorter time.
"""

from ml_collections import ConfigDict

from configs import base, image_folder, mask_folder


def get_config(model: str = "cifar_resnet8") -> ConfigDict:
    config = image_folder.get_config()
    if model in base.SEGMENTATION_MODELS:
        config = mask_folder.get_config()
    config.model = model
    # The fields that each variant changes, by the label of the variant.
    config.variants = ConfigDict(
        {"add": {"fusion": "add"}, "aff": {"fusion": "aff"}, "iaff": {"fusion": "iaff"}}
    )
    # The variant that the others are compared with, seed by seed.
    config.baseline = "add"
    # Every variant is trained with each of these seeds.
    config.seeds = (0, 1, 2)
    return config
