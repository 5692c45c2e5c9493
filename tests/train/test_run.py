"""What a config stands for."""

import numpy as np
import pytest

from configs import digit_scenes
from train.run import prepare


@pytest.mark.slow
def test_the_config_of_scenes_has_a_network_that_answers_for_each_pixel(digits_dir):
    config = digit_scenes.get_config()
    config.data_dir = str(digits_dir)
    run = prepare(config)
    images = np.stack([run.eval_source[i]["image"] for i in range(2)])
    assert run.predict(run.state, images).shape == (2, 64, 64)
