"""Metrics, progress, plots, TensorBoard files and the directory of a run."""
