"""Plan a run on a TPU slice or GPUs without having them, from its compiled step."""
