"""Command line `aff-jax`, with one file per command."""
