"""Random changes are those of the row in the global batch, and differ per image."""

import jax
import jax.numpy as jnp
import numpy as np

from train.data.augment.random_per_image import image_keys, map_images

KEY = jax.random.key(3)
IMAGES = np.arange(6 * 2 * 2 * 1, dtype=np.uint8).reshape(6, 2, 2, 1)


def test_keys_do_not_depend_on_the_number_of_devices():
    whole = jax.random.key_data(image_keys(KEY, IMAGES, 0))
    parts = [image_keys(KEY, IMAGES[first : first + 2], first) for first in (0, 2, 4)]
    np.testing.assert_array_equal(whole, jnp.concatenate(list(map(jax.random.key_data, parts))))
    assert len(np.unique(whole, axis=0)) == 6
    third = jax.random.key_data(jax.random.fold_in(KEY, 2))
    np.testing.assert_array_equal(whole[2], third)


def test_each_image_gets_its_own_numbers():
    numbers = {"operation": jnp.arange(6) % 2, "amount": jnp.arange(6, dtype=jnp.uint8)}

    def change(image, drawn):
        operations = (lambda x, amount: x + amount, lambda x, amount: x - amount)
        return jax.lax.switch(drawn["operation"], operations, image, drawn["amount"])

    expected = [x + i if i % 2 == 0 else x - i for i, x in enumerate(IMAGES)]
    result = jax.jit(map_images, static_argnums=0)(change, IMAGES, numbers)
    np.testing.assert_array_equal(result, np.array(expected, np.uint8), strict=True)
