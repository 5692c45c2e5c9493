"""Small pictures that tell operations apart, and where windows of them were cut."""

import numpy as np


def pictures(count: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Random uint8 images of 6 x 5 pixels, none of them zero, so that padding can be told."""
    shape = (count, 6, 5, channels)
    return np.random.default_rng(seed).integers(1, 256, shape).astype(np.uint8)


def scenes(shape: tuple[int, int, int]) -> np.ndarray:
    """uint8 images with all levels, with few, with one, dark, bright, and with slow gradients."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (6, *shape))
    walk = 128 + np.cumsum(rng.integers(-9, 10, (4, *shape)), axis=2)
    # In every row of a step picture there is something else, so that equalizing one does something.
    steps = np.broadcast_to(17 * np.arange(shape[1])[:, None], shape)[None]
    flat = np.full((1, *shape), 77)
    images = [noise, noise // 3, 160 + noise // 4, noise // 64 * 50, walk, steps, flat]
    return np.clip(np.concatenate(images), 0, 255).astype(np.uint8)


def window_offsets(
    original: np.ndarray, cropped: np.ndarray, padding: int
) -> list[tuple[int, int]]:
    """All offsets at which one cropped image is a window of the zero-padded original."""
    padded = np.pad(original, ((padding, padding), (padding, padding), (0, 0)))
    height, width, _ = original.shape
    return [
        (top, left)
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
        if np.array_equal(padded[top : top + height, left : left + width], cropped)
    ]
