"""Predictions of a trained network: classes and masks of images, as objects and as files."""

from aff_jax.prediction.predictor import (
    ClassPrediction,
    MaskPrediction,
    Predictor,
)

__all__ = ["ClassPrediction", "MaskPrediction", "Predictor"]
