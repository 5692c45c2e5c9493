"""Eight fake devices for every test, what runs on one uses the first; and little garbage collected.

Tracing makes so many objects that looking for garbage among them was 7 % of the tests' time.
"""

import gc
import os

# Read once, when JAX first looks for devices.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ["JAX_PLATFORMS"] = "cpu"
gc.set_threshold(200_000, 20, 50)
