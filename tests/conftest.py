"""Eight fake devices for every test, what runs on one uses the first; and programs made quickly."""

import os

# Read once, when JAX first looks for devices.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ["JAX_PLATFORMS"] = "cpu"
# Tests compile much and compute little: without LLVM's optimisations they take two thirds of the
# time. JAX_DISABLE_MOST_OPTIMIZATIONS=0 tests what users run, as CI does.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
