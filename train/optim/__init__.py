"""Optimizers, learning rate schedules, pretrained weights and frozen submodules."""
