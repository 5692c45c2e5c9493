"""Training and evaluation steps: pure functions, and how they run on all devices."""
