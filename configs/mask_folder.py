r"""AFF-FPN on your own images, with one mask per image.

    python -m train --config=configs/mask_folder.py --workdir=runs/mask_folder \
        --config.data_dir=PATH

    PATH/train/images/x.jpg    images as in `configs/image_folder.py`
    PATH/train/masks/x.png     mask of the same size, gray, palette or RGB; 255 is ignored
    PATH/val/images, masks     chooses the best checkpoint
    PATH/test/images, masks    evaluated once, at the end; without val/ it chooses the checkpoint
    PATH/classes.txt           one class per line: `name` for the values 0, 1, 2 .., `value name` or
                               `R G B name`. Without this file the classes are numbers.

docs/your_images.md leads from such a folder to predicted masks. Images that are not square are
padded; `--config.image_size='(240, 320)'` fits images of 4:3. For example, the scenes of
`configs/digit_scenes.py` in such folders, with `--config.image_channels=1`, take 2 min 51 s on two
CPU cores with other load, and the test mean IoU is 15.5 % (seed 0). Digits should not be flipped,
and five epochs are a third of that config's.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.dataset = "mask_folder"
    config.model = "fpn_resnet20"
    config.image_size = 64
    config.resize = "pad"
    config.image_channels = 3
    config.batch_size = 8
    config.eval_batch_size = 32
    config.epochs = 5.0
    config.schedule = "poly"
    config.flip = True
    config.eval_every_epochs = 2.5
    return config
