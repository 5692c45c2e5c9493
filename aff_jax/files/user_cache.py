"""The directory of what can be computed again."""

import os
from pathlib import Path

__all__ = ["user_cache"]


def user_cache(kind: str) -> Path:
    """Return the user's cache directory for one kind of files.

    Args:
        kind: Name of the kind, such as "masks".

    Returns:
        `$XDG_CACHE_HOME/aff_jax/KIND`, by default `~/.cache/aff_jax/KIND`. It may not exist.
    """
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(home), "aff_jax", kind)
