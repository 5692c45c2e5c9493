"""Segment digits in larger images with a small U-Net whose long skips are fused by AFF.

    python examples/segment.py

needs `pip install -e . optax scikit-learn`, and reaches a test mean IoU of about 50 % in less
than a minute on two CPU cores. Each 32x32 image has three digits of scikit-learn at random places.
The classes are background and the ten digits.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import aff_jax

STEPS, BATCH, SIZE, CLASSES = 300, 16, 32, 11


class Stage(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x, train):
        for _ in range(2):
            x = nn.Conv(self.features, (3, 3), use_bias=False)(x)
            x = nn.relu(aff_jax.BatchNorm()(x, train))
        return x


class UNet(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        skips = []
        for features in (16, 32):
            x = Stage(features)(x, train)
            skips.append(x)
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = Stage(64)(x, train)
        for skip in reversed(skips):
            x = aff_jax.Align()(x, skip)  # to the size and the channels of the skip
            x = aff_jax.AFF(reduction=2)(x, skip, train)  # instead of a concatenation
            x = Stage(skip.shape[-1])(x, train)
        return nn.Dense(CLASSES)(x)


def scenes(rng, digits, labels, count):
    """Draw digits at random places, and the class of each pixel."""
    images = np.zeros((count, SIZE, SIZE, 1), np.float32)
    masks = np.zeros((count, SIZE, SIZE), np.int32)
    for image, mask in zip(images, masks, strict=True):
        for index in rng.integers(len(digits), size=3):
            row, column = rng.integers(SIZE - 8, size=2)
            place = slice(row, row + 8), slice(column, column + 8)
            is_ink = digits[index] > 0.3
            image[place][is_ink] = digits[index][is_ink][:, None]
            mask[place][is_ink] = labels[index] + 1
    return images, masks


digits, labels = load_digits(return_X_y=True)
digits = digits.reshape(-1, 8, 8) / 16
rng = np.random.default_rng(0)
test_images, test_masks = scenes(rng, digits[1500:], labels[1500:], 100)

network = UNet()
variables = jax.jit(network.init)(jax.random.key(0), test_images[:1])
optimizer = optax.adamw(optax.cosine_decay_schedule(3e-3, STEPS))
opt_state = optimizer.init(variables["params"])


@jax.jit
def step(variables, opt_state, images, masks):
    def loss(params):
        logits, updates = network.apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, masks)
        # Most pixels are background.
        return losses.mean(where=masks > 0) + losses.mean(where=masks == 0), updates

    (value, stats), gradients = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    updates, opt_state = optimizer.update(gradients, opt_state, variables["params"])
    params = optax.apply_updates(variables["params"], updates)
    return {"params": params, **stats}, opt_state, value


@jax.jit
def mean_iou(variables):
    predicted, classes = network.apply(variables, test_images).argmax(-1), jnp.arange(CLASSES)
    is_predicted, is_class = predicted[..., None] == classes, test_masks[..., None] == classes
    both = (is_predicted & is_class).sum((0, 1, 2))
    return jnp.mean(both / (is_predicted | is_class).sum((0, 1, 2)))


for number in range(1, STEPS + 1):
    batch = scenes(rng, digits[:1500], labels[:1500], BATCH)
    variables, opt_state, value = step(variables, opt_state, *batch)
    if number % 50 == 0:
        print(f"step {number:3}  loss {value:.4f}  test mean IoU {mean_iou(variables):.1%}")
