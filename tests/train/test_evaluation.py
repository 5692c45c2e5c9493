"""The evaluation of a config needs the images to evaluate and nothing of the training data."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from train.data.sources.load import load_source
from train.eval_loop import evaluate
from train.evaluation import make_evaluation, make_normalize
from train.steps.parallel import Pmap
from train.steps.state import TrainState


class Brightness(nn.Module):
    """Scores of ten classes from the mean of a gray image."""

    @nn.compact
    def __call__(self, images, train=False):
        mean = jnp.mean(images, axis=(1, 2))
        return -jnp.abs(mean - jnp.linspace(-0.8, 1.8, 10))


def test_a_network_without_variables_is_evaluated(config, digits_dir):
    source = load_source("digits", "test", data_dir=digits_dir)
    parallel = Pmap(jax.devices()[:1])
    run = make_evaluation(config, Brightness(), source.image_task, source, parallel)
    state = TrainState(step=jnp.int32(0), params={}, batch_stats={}, opt_state=())
    metrics, confusion = evaluate(run, parallel.replicate(state))
    images = np.stack([example["image"] for example in source]) / 255.0
    mean = ((images - source.mean) / source.std).mean((1, 2))
    predicted = np.abs(mean - np.linspace(-0.8, 1.8, 10)).argmin(-1)
    labels = np.array([example["label"] for example in source])
    expected = np.zeros((10, 10), int)
    np.add.at(expected, (labels, predicted), 1)
    # A mean between two classes may be rounded to either.
    assert np.abs(confusion - expected).sum() <= 2
    assert metrics["accuracy"] == np.trace(confusion) / len(source)


def test_images_are_normalized_as_the_predictor_does(config, digits_dir):
    """The same program, so that predictions of a run and of its saved model are equal."""
    config.dtype = "float32"
    task = load_source("digits", "test", data_dir=digits_dir).image_task
    images = np.random.default_rng(0).integers(0, 256, (2, *task.input_shape)).astype(np.uint8)
    ours = jax.jit(make_normalize(config, task))(images)
    np.testing.assert_array_equal(ours, jax.jit(task.normalize)(images))
