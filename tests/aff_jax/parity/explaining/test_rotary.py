"""Attention behind rotary embeddings is named."""

import numpy as np
import pytest

from aff_jax.parity.explaining.combinations import name_attention


def attention(query, key, value):
    """Attention of one head of the first example, for arrays `(batch, positions, channels)`."""
    logits = query @ key.swapaxes(1, 2) / query.shape[-1] ** 0.5
    weights = np.exp(logits)
    return weights / weights.sum(-1, keepdims=True) @ value


def rotate(x, is_split):
    """Rotary embedding by complex numbers: of halves, or of neighbors."""
    positions, size = x.shape[1:]
    frequencies = 10000.0 ** (-np.arange(0, size, 2) / size)
    turns = np.exp(1j * np.arange(positions)[:, None] * frequencies)
    if is_split:
        turned = (x[..., : size // 2] + 1j * x[..., size // 2 :]) * turns
        return np.concatenate([turned.real, turned.imag], -1)
    turned = (x[..., ::2] + 1j * x[..., 1::2]) * turns
    return np.stack([turned.real, turned.imag], -1).reshape(x.shape)


@pytest.mark.parametrize(
    ("is_split", "words"), [(True, "the two halves of the"), (False, "neighboring")]
)
def test_rotary_embeddings_are_named(is_split, words):
    query, key, value = np.random.default_rng(0).standard_normal((3, 2, 5, 6))
    target = attention(rotate(query, is_split), rotate(key, is_split), value)
    sources = [("`v`", value), ("`k`", key), ("`q`", query)]
    named = name_attention(target, sources, np.allclose)
    assert named == (
        f"attention of 1 heads, with rotary embedding of {words} channels of `q` (query), `k` "
        f"(key) and `v` (value)"
    )
