"""Updates of PyTorch's optimizers in float64."""

import numpy as np
import torch

from aff_jax.parity.training.update_rules import Recorded, settings_of


def record(make, steps=3, **options):
    """Run an optimizer on random gradients and return what was recorded, its rule and settings."""
    rng = np.random.default_rng(0)
    weight = torch.nn.Parameter(torch.from_numpy(rng.standard_normal(9)))
    optimizer = make([weight], **options)
    gradients = rng.standard_normal((steps, 9))
    weights = [weight.detach().numpy().copy()]
    for gradient in gradients:
        weight.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
        weights.append(weight.detach().numpy().copy())
    recorded = Recorded(gradients, np.stack(weights), np.linalg.norm(gradients, axis=1))
    return recorded, settings_of(make.__name__, optimizer.param_groups[0])
