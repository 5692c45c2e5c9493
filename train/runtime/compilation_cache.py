"""Keep compiled programs on disk, so that the next start does not compile them again."""

import os
import tempfile
from pathlib import Path

import jax

from aff_jax.files.user_cache import user_cache

__all__ = ["enable_compilation_cache"]


def enable_compilation_cache(directory: str | None) -> Path | None:
    """Enable JAX's persistent compilation cache.

    A default directory that cannot be created is not an error: programs are compiled at each start.

    Args:
        directory: Directory of the cache. A URL, such as one of a bucket, is passed to JAX
            unchecked. None means JAX's own setting (`JAX_COMPILATION_CACHE_DIR`) or, if that is
            not set, `$XDG_CACHE_HOME/aff_jax/xla`, by default `~/.cache/aff_jax/xla`. An empty
            string disables the cache.

    Returns:
        The directory, or None for a URL or a disabled cache.

    Raises:
        OSError: If `directory` cannot be created or written to.
    """
    is_default = directory is None
    if directory is None:
        directory = jax.config.values["jax_compilation_cache_dir"] or str(user_cache("xla"))
    if "://" in directory:
        jax.config.update("jax_compilation_cache_dir", directory)
        return None
    path = Path(os.path.expanduser(directory)) if directory else None
    try:
        if path is not None:
            path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        if not is_default:
            raise OSError(
                f"could not write to --compilation_cache={path}: {error.strerror}. Use another "
                f"directory, or '' to compile at each start."
            ) from error
        path = None
    jax.config.update("jax_compilation_cache_dir", str(path) if path else None)
    # JAX's default of 1 s skips the dozens of small functions that a run compiles.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    return path
