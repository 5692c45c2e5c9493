"""What was compiled is kept on disk, so that the next start does not wait for it again."""

import os
from pathlib import Path

import jax

__all__ = ["keep_compiled"]


def keep_compiled(directory: str | None) -> Path | None:
    """Use the persistent compilation cache in `directory`; returns which, None where there is none.

    None stands for JAX's own setting (JAX_COMPILATION_CACHE_DIR) and, without one,
    `$XDG_CACHE_HOME/aff_jax/xla`, by default ~/.cache/aff_jax/xla. "" turns the cache off.

    A directory that cannot be written to costs nothing but the time to compile.
    """
    if directory is None:
        cache_home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        directory = jax.config.values["jax_compilation_cache_dir"] or f"{cache_home}/aff_jax/xla"
    path = Path(directory).expanduser() if directory else None
    jax.config.update("jax_compilation_cache_dir", str(path) if path else None)
    # JAX's threshold of 1 s leaves out what adds up: a run compiles dozens of small functions.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    return path
