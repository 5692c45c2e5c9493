"""Shapes of datasets that are not prepared."""

import pytest
from PIL import Image

from configs import base, cifar100_resnet32_coarse, digits, image_folder, stop_sign_fpn
from tests.train.data.sources.test_datasets import PREPARED_HERE
from train.data.sources.datasets import DATASETS
from train.data.sources.load import load_source
from train.plan.dataset_shapes import SHAPES, open_shapes


def test_every_dataset_is_known_or_a_folder_of_the_user():
    folders = {name for name, dataset in DATASETS.items() if dataset.find_splits}
    assert SHAPES.keys() | folders == DATASETS.keys()
    for name, shapes in SHAPES.items():
        assert tuple(shapes.classes) == DATASETS[name].label_keys
        assert shapes.is_mask == (DATASETS[name].task == "segmentation")


@pytest.mark.parametrize(
    "name",
    [
        # These scenes take ten seconds to draw.
        pytest.param(row.name, marks=[pytest.mark.slow] if row.name == "digit_scenes" else [])
        for row in PREPARED_HERE
    ],
)
def test_shapes_are_those_of_the_prepared_dataset(name, digits_dir):
    config = base.get_config()
    config.dataset = name
    shapes = open_shapes(config)
    source = load_source(name, "train", data_dir=digits_dir)
    for name in ("image_shape", "label_shape", "num_classes", "mean", "std", "nbytes"):
        assert getattr(shapes, name) == getattr(source, name), name
    assert len(shapes) == len(source)


def test_the_label_key_and_the_image_size_are_those_of_the_config():
    assert open_shapes(cifar100_resnet32_coarse.get_config()).num_classes == 20
    source = open_shapes(stop_sign_fpn.get_config())
    assert (source.image_shape, source.label_shape) == ((480, 480, 3), (480, 480))


def test_an_image_size_is_asked_for_where_images_differ():
    config = stop_sign_fpn.get_config()
    config.image_size = 0
    with pytest.raises(ValueError, match="expected images of one size in stop_sign"):
        open_shapes(config)


def test_an_unknown_label_key_is_refused():
    config = digits.get_config()
    config.label_key = "coarse"
    with pytest.raises(ValueError, match="expected a label_key of 'digits' in"):
        open_shapes(config)


@pytest.mark.filterwarnings("ignore:found no .*classes.txt")
def test_a_folder_is_opened(tmp_path):
    config = image_folder.get_config()
    config.data_dir = str(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_shapes(config)
    for split in ("train", "val"):
        for name in ("cat", "dog", "owl"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (40, 40)).save(tmp_path / split / name / "0.png")
    assert open_shapes(config).num_classes == 3
