"""The process around a run: distributed start, preemption, compilation cache, memory, profiling."""
