"""Distributed start, preemption, compilation cache, memory and profiling of a training process."""
