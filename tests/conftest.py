"""Settings for all tests: eight CPU devices, and rare garbage collection.

Tracing makes many objects. At the default thresholds, garbage collection took 7 % of the tests'
time.
"""

import gc
import os

# JAX reads these once, when it first looks for devices.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ["JAX_PLATFORMS"] = "cpu"
gc.set_threshold(200_000, 20, 50)
