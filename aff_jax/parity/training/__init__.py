"""Comparison of training steps in PyTorch and JAX."""
