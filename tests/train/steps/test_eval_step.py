"""The evaluation step against NumPy: sums over labels, without padding and ignored pixels."""

import jax
import numpy as np
import pytest

from tests.train.small_network import SmallNetwork, batches, state_and_step
from tests.train.steps.test_train_step import PerPixel, scenes
from train.steps.eval_step import make_eval_step
from train.steps.parallel import AXIS, PARALLEL

EXAMPLES = 11


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("per_pixel", [False, True])
def test_sums_over_labels_of_real_examples(devices, per_pixel):
    if per_pixel:
        model, batch = PerPixel(), scenes()
        batch["label"][EXAMPLES:] = 1
    else:
        model, (batch,) = SmallNetwork(), batches(1)
        batch["image"][EXAMPLES:] = 255
    mask = np.float32(np.arange(16) < EXAMPLES)
    parallel = PARALLEL["pmap"](jax.devices()[:devices])
    state, _ = state_and_step(model, image_shape=batch["image"].shape[1:])
    step = parallel.compile(make_eval_step(model, lambda images: images / 255, AXIS))
    sums = step(parallel.replicate(state), {**batch, "is_example": mask})

    logits = np.float64(model.apply(state.variables, np.float32(batch["image"][:EXAMPLES]) / 255))
    labels = batch["label"][:EXAMPLES]
    logits, labels = logits[labels >= 0], labels[labels >= 0]
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]
    assert sums["loss"] == pytest.approx(losses.sum(), rel=1e-5)
    expected = np.zeros((logits.shape[-1],) * 2, int)
    np.add.at(expected, (labels, logits.argmax(1)), 1)
    np.testing.assert_array_equal(sums["confusion"], expected)
    assert sums["examples"] == EXAMPLES
