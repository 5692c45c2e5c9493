"""What was compiled is kept on disk, so that the next start does not wait for it again."""

import os
import tempfile
from pathlib import Path

import jax

__all__ = ["enable_compilation_cache"]


def enable_compilation_cache(directory: str | None) -> Path | None:
    """Use the persistent compilation cache in `directory`; returns which, None where there is none.

    None stands for JAX's own setting (JAX_COMPILATION_CACHE_DIR) and, without one,
    `$XDG_CACHE_HOME/aff_jax/xla`, by default ~/.cache/aff_jax/xla. "" turns the cache off.

    A default directory that cannot be made costs nothing but the time to compile.

    A URL, as of a bucket, is left to JAX and not looked into.

    Raises:
        OSError: `directory` cannot be made, or not be written to.
    """
    given = directory is not None
    if directory is None:
        cache_home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        directory = jax.config.values["jax_compilation_cache_dir"] or f"{cache_home}/aff_jax/xla"
    if "://" in directory:  # a bucket, which JAX opens by itself
        jax.config.update("jax_compilation_cache_dir", directory)
        return None
    path = Path(directory).expanduser() if directory else None
    try:
        if path is not None:
            path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        if given:
            raise OSError(
                f"could not write to --compilation_cache={path}: {error.strerror}. Give another "
                f"directory, or '' to compile at each start."
            ) from error
        path = None
    jax.config.update("jax_compilation_cache_dir", str(path) if path else None)
    # JAX's threshold of 1 s leaves out what adds up: a run compiles dozens of small functions.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    return path
