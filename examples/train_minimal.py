"""Train a small network with AFF on handwritten digits, in plain JAX, Flax and Optax.

    python examples/train_minimal.py

needs `pip install -e . optax scikit-learn`, and reaches a test accuracy of about 99 % in less than
a minute on two CPU cores. The digits are the 1,797 images of 8x8 pixels of scikit-learn.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import aff_jax

EPOCHS, BATCH = 10, 64


class Network(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(32, (3, 3))(x)
        for _ in range(2):
            residual = nn.relu(aff_jax.BatchNorm()(nn.Conv(32, (3, 3))(nn.relu(x)), train))
            residual = nn.Conv(32, (3, 3))(residual)
            x = aff_jax.AFF(reduction=4)(residual, x, train)  # instead of residual + x
        return nn.Dense(10)(nn.relu(x).mean((1, 2)))


images, labels = load_digits(return_X_y=True)
images = (images.reshape(-1, 8, 8, 1) / 16 - 0.3).astype(np.float32)
splits = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=0)
train_images, test_images, train_labels, test_labels = splits

network = Network()
variables = jax.jit(network.init)(jax.random.key(0), train_images[:1])
params, batch_stats = variables["params"], variables["batch_stats"]
steps_per_epoch = len(train_images) // BATCH
optimizer = optax.adamw(
    optax.cosine_decay_schedule(3e-3, EPOCHS * steps_per_epoch), weight_decay=0.05
)
opt_state = optimizer.init(params)


@jax.jit
def step(params, batch_stats, opt_state, images, labels):
    def loss(params):
        logits, updates = network.apply(
            {"params": params, "batch_stats": batch_stats},
            images,
            train=True,
            mutable=["batch_stats"],
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), updates["batch_stats"]

    (value, batch_stats), gradients = jax.value_and_grad(loss, has_aux=True)(params)
    updates, opt_state = optimizer.update(gradients, opt_state, params)
    return optax.apply_updates(params, updates), batch_stats, opt_state, value


shuffle = np.random.default_rng(0)
for epoch in range(EPOCHS):
    order = shuffle.permutation(len(train_images))[: steps_per_epoch * BATCH]
    for batch in order.reshape(steps_per_epoch, BATCH):
        params, batch_stats, opt_state, value = step(
            params, batch_stats, opt_state, train_images[batch], train_labels[batch]
        )
    logits = network.apply({"params": params, "batch_stats": batch_stats}, test_images)
    accuracy = jnp.mean(logits.argmax(-1) == test_labels)
    print(f"epoch {epoch + 1:2}  loss {value:.4f}  test accuracy {accuracy:.1%}")
