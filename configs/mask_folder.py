r"""AFF-FPN on your own images, with a mask for each.

    python -m train --config=configs/mask_folder.py --workdir=runs/mask_folder \
        --config.data_dir=PATH

    PATH/train/images/x.jpg    images as for `configs/image_folder.py`
    PATH/train/masks/x.png     grey or palette PNG of the same size; values are class numbers from
                               0 on, and 255 where a pixel is not to be counted
    PATH/test/images, masks    or val/, or validation/
    PATH/classes.txt           the classes' names, one a line, the first that of 0; without it all
                               training masks are read at the start, and classes are their numbers

Images that are not square lose what a square in their middle has no room for. As an example, the
scenes of `configs/digit_scenes.py`, written into such folders, with `--config.image_channels=1`:
2 min 51 s on two CPU cores that others were using as well, test mean IoU 15.5 % (seed 0). Digits
are not to be mirrored, and five epochs are a third of that config's.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.dataset = "mask_folder"
    config.model = "fpn_resnet20"
    config.image_size = 64
    config.image_channels = 3
    config.batch_size = 8
    config.eval_batch_size = 32
    config.epochs = 5.0
    config.schedule = "poly"
    config.flip = True
    config.eval_every_epochs = 2.5
    return config
