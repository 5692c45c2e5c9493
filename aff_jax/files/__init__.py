"""Atomic file writing, and `.safetensors` files."""
