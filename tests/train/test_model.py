"""Networks of configs: their initializers, their fields, and the shape of their outputs."""

import re
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from train.model import KERNEL_INITS, check_output_shape, make_model
from train.steps.parallel import AXIS

FAN_IN, FAN_OUT = 9 * 8, 9 * 24


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("xavier", 2 / (FAN_IN + FAN_OUT)),  # Glorot and Bengio, 2010, equation 16
        ("he", 2 / FAN_OUT),  # He et al., 2015, equation 14
        # MXNet's MSRAPrelu: the same with the mean of both fans, and the slope 1/4 of a PReLU.
        ("msra_prelu", 2 / (1 + 0.25**2) / ((FAN_IN + FAN_OUT) / 2)),
    ],
)
def test_kernel_initializers_have_their_variances(name, variance):
    key = jax.random.key(0, impl="rbg")  # compiles fast
    kernel = np.float64(KERNEL_INITS[name](key, (3, 3, 8, 24)))
    # The standard error of the variance of 1,728 normal numbers is 3.4 %.
    assert np.mean(kernel**2) == pytest.approx(variance, rel=0.15)


def test_variances_of_all_kernel_initializers_are_tested():
    assert KERNEL_INITS.keys() == {"xavier", "he", "msra_prelu"}


def test_network_has_the_fields_of_the_config():
    config = digits.get_config()
    config.model_fields.width = 2
    config.kernel_init = "he"
    config.dtype = "bfloat16"
    model = make_model(config, num_classes=7)
    assert (model.num_classes, model.width, model.dtype) == (7, 2, jnp.bfloat16)
    assert model.kernel_init is KERNEL_INITS["he"]
    assert model.norm.keywords == {"axis_name": AXIS}
    config.sync_batch_norm = False
    assert make_model(config, num_classes=7).norm.keywords == {"axis_name": None}


def test_unknown_initializer_is_refused():
    config = digits.get_config()
    config.kernel_init = "hee"
    with pytest.raises(ValueError, match=r"kernel_init 'hee'\. Did you mean 'he'"):
        make_model(config, num_classes=7)


@pytest.mark.parametrize("label_shape", [(), (6, 5)])
def test_output_shape_is_that_of_the_labels(label_shape):
    config = digits.get_config()
    source = SimpleNamespace(image_shape=(6, 5, 1), label_shape=(6, 5), num_classes=3)
    model = nn.Dense(3)
    variables = {"params": {"kernel": jnp.zeros((1, 3)), "bias": jnp.zeros(3)}}
    source.label_shape = label_shape
    if label_shape:
        check_output_shape(config, model, variables, source)
    else:
        expected = re.escape("shape (1, 3), got (1, 6, 5, 3) from 'cifar_resnet8'")
        with pytest.raises(ValueError, match=expected):
            check_output_shape(config, model, variables, source)
