"""Flags shared by `python -m train` and `python -m train.compare`."""

from absl import flags
from ml_collections import config_flags

__all__ = ["COMPILATION_CACHE", "CONFIG", "TRACEBACK", "WORKDIR"]

CONFIG = config_flags.DEFINE_config_file(
    "config",
    help_string="Config file; set its fields with --config.FIELD=VALUE.",
    # `train.command_line` locks it after checking which fields were added.
    lock_config=False,
    accept_new_attributes=True,
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of the run; resumes from its last checkpoint.", required=True
)
TRACEBACK = flags.DEFINE_bool("traceback", False, "Show where in the code an error was raised.")
COMPILATION_CACHE = flags.DEFINE_string(
    "compilation_cache",
    None,
    "Directory of compiled programs for later starts, '' for none; by default "
    "$JAX_COMPILATION_CACHE_DIR or ~/.cache/aff_jax/xla.",
)
