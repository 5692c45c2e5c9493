r"""AFF-ResNet-8 on your own images, with one folder per class.

    python -m train --config=configs/image_folder.py --workdir=runs/image_folder \
        --config.data_dir=PATH

    PATH/train/CLASS/*.jpg     the folders in train/ are the classes; subfolders are allowed
    PATH/val/CLASS/*.jpg       chooses the best checkpoint; only classes that train/ has
    PATH/test/CLASS/*.jpg      evaluated once, at the end; without val/ it chooses the checkpoint

docs/your_images.md leads from such a folder to predictions. Transparent pixels become black. Files
that are not images are ignored with a warning.

For example, scikit-learn's 1,797 digits as PNG files take 191 s on two CPU cores with other load,
and the test accuracy is 97.2 % (seed 0). Digits should not be flipped; `configs/digits.py` has
98.9 %.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.dataset = "image_folder"
    config.image_size = 32
    config.resize = "pad"
    config.image_channels = 3
    config.batch_size = 64
    config.epochs = 20.0
    config.crop_padding = 4
    config.flip = True
    config.eval_every_epochs = 5.0
    return config
