"""Plan a run on a TPU slice or GPUs that are not there: compile its step, and read the program."""
