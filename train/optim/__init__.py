"""Optimizers, learning rate schedules, pretrained weights and freezing."""
