"""Predictions of a trained network: classes and masks of images, as objects and as files."""

from aff_jax.prediction.predictor import (
    NO_CLASS,
    ClassPrediction,
    MaskPrediction,
    Prediction,
    Predictor,
)

__all__ = ["NO_CLASS", "ClassPrediction", "MaskPrediction", "Prediction", "Predictor"]
