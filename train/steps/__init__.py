"""What one device computes in a step: pure functions, and how they run on all devices."""
