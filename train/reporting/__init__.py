"""What a run writes: metrics, progress, plots, TensorBoard files and its directory."""
