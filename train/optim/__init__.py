"""Optimizers, learning-rate schedules and fine-tuning."""
