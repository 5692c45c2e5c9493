"""Train a new head on a frozen ResNet-18 whose weights come from PyTorch.

    python examples/finetune_backbone.py resnet18.pth

needs `pip install -e '.[torch]' optax scikit-learn`. The file is a state dict of torchvision::

    torch.save(torchvision.models.resnet18(weights="DEFAULT").state_dict(), "resnet18.pth")

The backbone does not change, so its features are computed once, and only the head is trained, on
the handwritten digits of scikit-learn. With random weights instead of ImageNet's, the test accuracy
is about 94 %.
"""

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import aff_jax

STEPS = 300

if len(sys.argv) != 2:
    sys.exit(f"expected the file with the weights, got {sys.argv[1:]}.\n{__doc__}")

model = aff_jax.create_model("resnet18", fusion="add")
variables = aff_jax.convert.from_torch(sys.argv[1], model)
backbone = model.clone(features_only=True)


@jax.jit
def features(images):
    """Return the mean of the last feature map. Flax ignores the variables of the head."""
    return backbone.apply(variables, images, train=False)[-1].mean((1, 2))


digits, labels = load_digits(return_X_y=True)
# The network reads color images. They are enlarged, since it divides their size by 32.
digits = jnp.repeat(digits.reshape(-1, 8, 8, 1) / 16, 3, axis=-1)
mean, std = jnp.array([0.485, 0.456, 0.406]), jnp.array([0.229, 0.224, 0.225])  # ImageNet's
images = (jax.image.resize(digits, (len(digits), 32, 32, 3), "bilinear") - mean) / std
inputs = np.concatenate([features(batch) for batch in np.split(np.asarray(images), 3)])
inputs = (inputs - inputs.mean(0)) / (inputs.std(0) + 1e-6)
splits = train_test_split(inputs, labels, test_size=0.2, stratify=labels, random_state=0)
train_inputs, test_inputs, train_labels, test_labels = splits

head = nn.Dense(10)
head_params = head.init(jax.random.key(0), train_inputs)
optimizer = optax.adamw(1e-2, weight_decay=1e-2)


@jax.jit
def step(params, opt_state):
    def loss(params):
        logits = head.apply(params, train_inputs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, train_labels).mean()

    value, gradients = jax.value_and_grad(loss)(params)
    updates, opt_state = optimizer.update(gradients, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, value


opt_state = optimizer.init(head_params)
for number in range(1, STEPS + 1):
    head_params, opt_state, value = step(head_params, opt_state)
    if number % 50 == 0:
        accuracy = jnp.mean(head.apply(head_params, test_inputs).argmax(-1) == test_labels)
        print(f"step {number:3}  loss {value:.4f}  test accuracy {accuracy:.1%}")
