"""Benchmarks of speed, memory and startup. See `benchmarks/README.md`."""
